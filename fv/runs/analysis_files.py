"""The outputs of a run's analyses: each in a folder of its own, with a record that names its files (spec section 4)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fv.errors import ArtifactError
from fv.runs.paths import RunPaths
from fv.runs.records import FOREIGN, AnalysisRecord, read_record

META = "analysis_meta.json"
SETTINGS = "seed and stats"
"""The input of every analysis that stands for settings and is no file."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnalysisOutputs:
    """An analysis that was made.

    Attributes:
        folder: where its files are.
        record: what it says of itself.
    """

    folder: Path
    record: AnalysisRecord

    @property
    def table_names(self) -> list[str]:
        """What its tables are called."""
        return [Path(name).stem for name in self.record.outputs if name.endswith(".csv")]

    def is_of(self, digests: Mapping[str, str]) -> bool:
        """Whether what it read is still there, as {what may be read: its digest} says."""
        inputs = self.record.inputs.items()
        return all(digests.get(name) == there for name, there in inputs if name not in (*FOREIGN, SETTINGS))


def read_analyses(paths: RunPaths) -> dict[str, AnalysisOutputs]:
    """{name: what it wrote} of each analysis of a run, sorted; under a tag those of the tag, and those of earlier steps
    that the tag has in common with the run.

    One whose metadata are damaged is left out with a warning: it can be made again, and the others are as they were.
    """
    names = sorted(path.name for path in paths.analyses.glob("*") if path.is_dir())
    found = {name: _read(paths.analysis(name)) or _shared(name, paths) for name in names}
    return {name: made for name, made in found.items() if made}


def _read(folder: Path) -> AnalysisOutputs | None:
    path = folder / META
    if not path.exists():
        return None
    try:
        return AnalysisOutputs(folder, read_record(path, AnalysisRecord))
    except ArtifactError as error:
        log.warning("The analysis in %s is left out. %s", folder, error)
    return None


def _shared(name: str, paths: RunPaths) -> AnalysisOutputs | None:
    """The untagged one, where the step it reads did not run under the tag."""
    made = _read(replace(paths, tag=None, place="").analysis(name)) if paths.tag or paths.place else None
    has_own_vectors = paths.stepe_to_read != paths.artifacts
    steps = ("StepD",) if has_own_vectors else ("StepD", "StepE")
    return made if made and made.record.after in steps else None
