"""What analyses of a run wrote: each in a folder of its own, with metadata that name its files (spec section 4)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fv.runs.metadata import read_meta
from fv.runs.paths import RunPaths

META = "analysis_meta.json"


@dataclass(frozen=True)
class AnalysisOutputs:
    """An analysis that was made.

    Attributes:
        folder: where its files are.
        meta: its settings, inputs and outputs.
    """

    folder: Path
    meta: dict[str, Any]

    @property
    def table_names(self) -> list[str]:
        """What its tables are called."""
        return [Path(name).stem for name in self.meta["outputs"] if name.endswith(".csv")]

    def is_of(self, digests: Mapping[str, str]) -> bool:
        """Whether what it read is still there, as far as {what may be read: its digest} says."""
        return all(digests.get(name, there) == there for name, there in self.meta["inputs"].items())


def read_analyses(paths: RunPaths) -> dict[str, AnalysisOutputs]:
    """{name: what it wrote} of each analysis of a run, sorted; under a tag those of the tag, and those of earlier steps
    that the tag has in common with the run.

    Raises:
        ArtifactError: metadata cannot be read.
    """
    names = sorted(path.name for path in paths.analyses.glob("*") if path.is_dir())
    found = {name: _read(paths.analysis(name)) or _shared(name, paths) for name in names}
    return {name: made for name, made in found.items() if made}


def _read(folder: Path) -> AnalysisOutputs | None:
    path = folder / META
    return AnalysisOutputs(folder, read_meta(path)) if path.exists() else None


def _shared(name: str, paths: RunPaths) -> AnalysisOutputs | None:
    """The untagged one, where the step it reads did not run under the tag."""
    made = _read(replace(paths, tag=None, place="").analysis(name))
    has_own_vectors = paths.stepe_to_read != paths.artifacts
    steps = ("StepD",) if has_own_vectors else ("StepD", "StepE")
    return made if made and made.meta["after"] in steps else None
