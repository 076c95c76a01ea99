"""Records: what each step says of itself in its metadata, and whether it is of the files there are (spec section 4).

Imports no torch: `status` reads them while a run is at work.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_validator

from fv.errors import ArtifactError, shorten
from fv.files import digest_of, read_json, write_json
from fv.runs.commands import command
from fv.runs.paths import FV_META, SNAPSHOT, STEP6_META, TOP_HEADS, RunPaths, is_inside

DIGEST = "digest"
"""The key under which metadata have the SHA-256 of all their other values."""
FOREIGN = ("fv_file",)
"""Inputs of a step that no step of the run makes: another one is another setting, and not a run that has grown."""
DUE = {
    "stepD": (SNAPSHOT, "cie_scores.csv", "cie_trials.npz", "trial_metrics.jsonl"),
    "stepE": (TOP_HEADS, "fv_global_resid.pt", "fv_qid.pt"),
    "step6": ("eval_trials.jsonl", "eval_summary.json"),
}
"""The files without which a step has not finished, by what its metadata call it."""
STEPD = "stepD"
"""The input that is all of StepD's files."""
REMEDY = "Remove the file, and the command that wrote it makes it again from finished units."


def _inside(name: str) -> str:
    if not is_inside(name):
        raise ValueError("it leads out of the run's folder")
    return name


FileName = Annotated[str, AfterValidator(_inside)]
"""The name of a file, relative to the folder that it is in."""


class _Open(BaseModel):
    """Checks the values that readers use, and lets others be."""

    model_config = ConfigDict(extra="allow", strict=True)


class _Model(_Open):
    name: str


class _Score(_Open):
    key: str
    k: int


class _Compute(_Open):
    device: str


class _Config(_Open):
    seed: int
    tag: str | None = None
    model: _Model
    data: dict[str, Any]
    score: _Score
    injection: dict[str, Any]
    evaluation: dict[str, Any]
    stats: dict[str, Any]
    compute: _Compute


class _Record(_Open):
    schema_version: Literal[1]
    step: str = ""
    seed: int | None = None
    status: Literal["running", "ok"]
    outputs: dict[FileName, str] = {}
    inputs: dict[str, str] = {}
    settings: dict[str, Any] = {}
    warnings: list[str] = []
    model: dict[str, Any] = {}
    compute: dict[str, Any] = {}
    versions: dict[str, str] = {}
    started: str = ""
    finished: str = ""
    config: _Config | None = None

    @model_validator(mode="after")
    def _has_what_is_due(self) -> "_Record":
        due = DUE.get(self.step, ())
        needed = {"config", "model", "compute", *(() if self.step == "stepD" else ("settings", "inputs"))}
        if due and (missing := sorted(needed - self.model_fields_set)):
            raise ValueError(f"it has no {', '.join(missing)}")
        if self.status == "ok" and (lacking := [name for name in due if name not in self.outputs]):
            raise ValueError(f"its outputs lack {', '.join(lacking)}")
        return self


def write_meta(path: Path, meta: dict[str, Any]) -> None:
    """Write a step's metadata, with the digest of what they say."""
    plain = json.loads(json.dumps(meta, allow_nan=False))  # as they are read back: a key that is a number is text
    write_json(path, {**meta, DIGEST: digest_of(plain)})


def read_meta(path: Path) -> dict[str, Any]:
    """A step's metadata, without their digest.

    Raises:
        ArtifactError: the file is missing, damaged or was changed since it was written, is no step's metadata, or names
            a file outside its folder.
    """
    try:
        meta = read_json(path)
    except ArtifactError as error:
        raise error if not path.exists() else ArtifactError(f"{error} {REMEDY}") from None
    if not isinstance(meta, dict) or meta.get("schema_version") != 1 or "status" not in meta:
        raise ArtifactError(f"{path} is not the metadata of a step (schema 1). {REMEDY}")
    recorded = meta.pop(DIGEST, None)  # an older version's have none
    if recorded is not None and recorded != digest_of(meta):
        raise ArtifactError(f"{path} was changed or damaged since it was written: its digest is another. {REMEDY}")
    try:
        _Record.model_validate(meta)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "in all"
        raise ArtifactError(f"{path} is not the metadata of a step: {where}: {first['msg']}. {REMEDY}") from None
    return meta


@dataclass(frozen=True)
class StepRecord:
    """A step that has begun.

    Attributes:
        step: `StepD`, `StepE` or `Step6`.
        folder: where its files are.
        meta: what it recorded.
        changed: the files it was made from that are others now, or gone; empty where it is of the run as it is.
    """

    step: str
    folder: Path
    meta: dict[str, Any]
    changed: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self.meta["status"] == "ok"

    @property
    def outputs(self) -> dict[str, str]:
        """{file: SHA-256} of what it wrote."""
        return self.meta.get("outputs", {})

    @property
    def stale(self) -> str:
        """A sentence if it is not of the run as it is; else empty."""
        if not self.changed:
            return ""
        again = command(self.step.lower(), "(with the run's settings)")
        return (
            f"{self.step} in {self.folder} is stale: it was made from another {shorten([*self.changed], 3)} than the "
            f"run has now. {again} makes it again."
        )


def read_steps(paths: RunPaths) -> dict[str, StepRecord]:
    """{step: its record} of the steps that have begun, in their order; under a tag those of the tag.

    Every reader asks here whether a step is of the files that are there.

    Raises:
        ArtifactError: metadata are damaged or were changed.
    """
    found: dict[str, StepRecord] = {}
    made: dict[str, str] = {}
    for step, path in (
        ("StepD", paths.stepd_meta),
        ("StepE", paths.stepe_to_read / FV_META),
        ("Step6", paths.step6 / STEP6_META),
    ):
        if not path.exists():
            continue
        meta = read_meta(path)
        inputs = meta.get("inputs", {})
        names = {*inputs} - {*FOREIGN}
        if step == "StepE":  # which reads all that StepD wrote
            names |= {*made} - {STEPD}
        changed = sorted(name for name in names if made.get(name) != inputs.get(name))
        found[step] = StepRecord(step, path.parent, meta, tuple(changed))
        made |= meta.get("outputs", {})
        if step == "StepD":
            made[STEPD] = digest_of(meta.get("outputs", {}))
    return found
