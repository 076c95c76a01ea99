"""Outputs of a run's analyses: each analysis has its own folder, with a record of its files (spec section 4)."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fv.errors import ArtifactError
from fv.runs.paths import RunPaths
from fv.runs.records import FOREIGN, AnalysisRecord, read_record

META = "analysis_meta.json"
SETTINGS = "seed and stats"
"""Input of every analysis that stands for settings, not for a file."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnalysisOutputs:
    """The outputs of a finished analysis.

    Attributes:
        folder: the folder of its files.
        record: its record.
    """

    folder: Path
    record: AnalysisRecord

    @property
    def table_names(self) -> list[str]:
        """The names of its tables."""
        return [Path(name).stem for name in self.record.outputs if name.endswith(".csv")]

    def is_of(self, digests: Mapping[str, str]) -> bool:
        """True if its inputs are unchanged.

        Args:
            digests: {input: its digest now}.
        """
        inputs = self.record.inputs.items()
        return all(digests.get(name) == there for name, there in inputs if name not in (*FOREIGN, SETTINGS))


def read_analyses(paths: RunPaths) -> dict[str, AnalysisOutputs]:
    """Read {name: outputs} of all analyses of a run, sorted by name.

    Under a tag these are the tag's analyses, and the untagged analyses of steps that did not run under the tag. An
    analysis whose record is damaged is left out with a warning: it can be made again.
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
    """Read the untagged analysis, if the step that it reads did not run under the tag; else None."""
    made = _read(replace(paths, tag=None, place="").analysis(name)) if paths.tag or paths.place else None
    has_own_vectors = paths.stepe_to_read != paths.artifacts
    steps = ("StepD",) if has_own_vectors else ("StepD", "StepE")
    return made if made and made.record.after in steps else None
