"""Figures that analyses of a run have drawn into files, as the page shows them."""

import base64
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

from fv.report.words import called
from fv.runs.outputs import verify_outputs
from fv.runs.run import Run

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
"""{suffix: type}, the one that is shown first where there are both."""
_OWN = {("transfer", "transfer_matrix")}
"""(analysis, figure) that the page draws itself, with the names of relations."""


class DrawnFigure(NamedTuple):
    """A figure from a file.

    Attributes:
        caption: which analysis drew it.
        address: the image, as an address of the page's own; no script in it would run.
    """

    caption: str
    address: str


def analysis_figures(run: Run) -> Iterator[DrawnFigure]:
    """Every SVG or PNG that an analysis of the run has written and the page does not draw itself.

    Raises:
        ArtifactError: a file is missing or was changed.
    """
    for analysis, made in run.analyses.items():
        files = {PurePath(file) for file in made.record.outputs}
        for stem in sorted({file.stem for file in files if file.suffix in _TYPES}):
            if (analysis, stem) in _OWN:
                continue
            suffix = next(each for each in _TYPES if PurePath(f"{stem}{each}") in files)
            name = f"{stem}{suffix}"
            verify_outputs(made.folder, {name: made.record.outputs[name]}, "The analysis")
            data = base64.b64encode((made.folder / name).read_bytes()).decode()
            caption = f"{called(stem)}, drawn by the analysis {called(analysis)}."
            yield DrawnFigure(caption, f"data:{_TYPES[suffix]};base64,{data}")
