"""Figures of analyses: read from the files that a run's analyses have drawn, for the page."""

import base64
from collections.abc import Iterator
from pathlib import PurePath
from typing import NamedTuple

from fv.report.words import called
from fv.runs.outputs import verify_outputs
from fv.runs.run import Run

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
"""{suffix: media type}; if a figure has both files, the first of these is shown."""
_OWN = {("transfer", "transfer_matrix")}
"""Figures, as (analysis, figure), that the page draws itself, with the names of relations."""


class DrawnFigure(NamedTuple):
    """Figure from a file.

    Attributes:
        caption: caption that names the analysis.
        address: the image as a data address within the page; scripts in it would not run.
    """

    caption: str
    address: str


def analysis_figures(run: Run) -> Iterator[DrawnFigure]:
    """Read every SVG or PNG of the run's analyses, except those that the page draws itself.

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
