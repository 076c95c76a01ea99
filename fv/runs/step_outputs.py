"""Outputs of the steps that have begun in a run, with the inputs that have changed since.

Imports no torch: `status` reads them while a run is at work.
"""

from dataclasses import dataclass
from pathlib import Path

from fv.errors import shorten
from fv.files import digest_of
from fv.runs.commands import command
from fv.runs.paths import FV_META, STEP6_META, RunPaths
from fv.runs.records import FOREIGN, STEPD, Hashes, Step6Record, StepDRecord, StepERecord, StepRecord, read_record


@dataclass(frozen=True)
class StepOutputs:
    """The outputs of a step that has begun.

    Attributes:
        step: `StepD`, `StepE` or `Step6`.
        folder: the folder of its files.
        record: its record.
        changed: the input files that have changed since, or are gone; empty if it is up to date.
    """

    step: str
    folder: Path
    record: StepRecord
    changed: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """True if it has finished and is up to date."""
        return self.record.is_finished and not self.changed

    @property
    def hashes(self) -> Hashes:
        """{file: SHA-256} of its outputs."""
        return self.record.outputs

    @property
    def stale(self) -> str:
        """A sentence if it is stale; else empty."""
        if not self.changed:
            return ""
        again = command(self.step.lower(), "(with the run's settings)")
        return (
            f"{self.step} in {self.folder} is stale: it was made from another {shorten([*self.changed], 3)} than the "
            f"run has now. {again} makes it again."
        )


def read_steps(paths: RunPaths) -> dict[str, StepOutputs]:
    """Read {step: its outputs} of the steps that have begun, in their order; under a tag, the tag's outputs.

    Raises:
        ArtifactError: a record is damaged or was changed.
    """
    found: dict[str, StepOutputs] = {}
    made: dict[str, str] = {}
    places: list[tuple[str, Path, type[StepRecord]]] = [
        ("StepD", paths.stepd_meta, StepDRecord),
        ("StepE", paths.stepe_to_read / FV_META, StepERecord),
        ("Step6", paths.step6 / STEP6_META, Step6Record),
    ]
    for step, path, kind in places:
        if not path.exists():
            continue
        record = read_record(path, kind)
        names = {*record.inputs} - {*FOREIGN}
        if step == "StepE":  # StepE reads all of StepD's files
            names |= {*made} - {STEPD}
        changed = sorted(name for name in names if made.get(name) != record.inputs.get(name))
        found[step] = StepOutputs(step, path.parent, record, tuple(changed))
        made |= record.outputs
        if step == "StepD":
            made[STEPD] = digest_of(record.outputs)
    return found
