"""Records: descriptions of steps and analyses, written into the folders of their files (spec section 4).

Imports no torch: `status` reads records while a run is at work.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from fv.config import Config
from fv.config.group import Settings
from fv.data.snapshot_meta import QidCounts
from fv.errors import ArtifactError, FvError
from fv.files import digest_of, read_json, write_json
from fv.models.spec import ModelSpec
from fv.runs.migrations import SCHEMA, migrated
from fv.runs.paths import SNAPSHOT, TOP_HEADS, is_inside

DIGEST = "digest"
"""Key of the SHA-256 of all other values of a record."""
STEPD = "stepD"
"""Input that stands for all of StepD's files."""
FOREIGN = ("fv_file",)
"""Inputs that no step of the run makes: if one differs, a setting differs, and the run has not grown."""
REMEDY = "Remove the file, and the command that wrote it makes it again from finished units."
Values = dict[str, JsonValue]
"""{dotted key of a setting: its plain value}."""
Hashes = Mapping[str, str]
"""{name of a file: its SHA-256}."""


def _inside(name: str) -> str:
    if not is_inside(name):
        raise ValueError("it leads out of the run's folder")
    return name


def _config(value: Any) -> Config:
    """Build a configuration from plain values; turn an error of its checks into one that pydantic collects.

    Settings of a cluster are left out, because records do not name their class.
    """
    try:
        return _CONFIG.validate_python(value)
    except FvError as error:
        raise ValueError(str(error)) from None


_CONFIG = TypeAdapter(Config)


FileName = Annotated[str, AfterValidator(_inside)]
"""Name of a file, relative to its folder."""
RecordedConfig = Annotated[
    Config,
    BeforeValidator(_config),
    PlainSerializer(Config.resolved, return_type=Settings),
    WithJsonSchema({"type": "object", "description": "All settings: config.schema.json."}),
]
"""Configuration, written as plain values; a setting that the record lacks has its default."""


class Record(BaseModel):
    """The fields that all records have. A file has all fields; those with a default are known only at the end.

    Attributes:
        schema_version: the version of the schema.
        status: `running`, or `ok` when all files are written.
        finished: the time when all files were written, in UTC.
        outputs: {file: SHA-256} of the written files.
        warnings: sentences on limits of the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)
    due: ClassVar[tuple[str, ...]] = ()
    """Files that a finished record must name; without them it is damaged."""

    schema_version: Literal[2] = SCHEMA
    status: Literal["running", "ok"] = "running"
    finished: str = ""
    outputs: dict[FileName, str] = {}
    warnings: list[str] = []

    @model_validator(mode="after")
    def _is_whole(self) -> "Record":
        if self.status == "ok" and (lacking := [name for name in self.due if name not in self.outputs]):
            raise ValueError(f"its outputs lack {', '.join(lacking)}")
        return self

    @property
    def is_finished(self) -> bool:
        """True if all files are written."""
        return self.status == "ok"


class ComputedRecord(Record):
    """The record of a computation in a run.

    Attributes:
        seed: the seed of every draw.
        config: all settings.
        settings: the settings that decide the outputs.
        inputs: {file: SHA-256} of the files that were read.
        model: the fingerprint of the model (`LanguageModel.fingerprint`).
        compute: the machine's settings, by the keys of `fv.runs.identity.MACHINE`.
        computed_with: the machine's settings of every process that computed units.
        versions: {package: version}.
        started: the time of its beginning, in UTC.
    """

    seed: int
    config: RecordedConfig
    settings: Values = {}
    inputs: dict[str, str] = {}
    model: dict[str, str]
    compute: Values
    computed_with: list[Values] = []
    versions: dict[str, str]
    started: str


class StepRecord(ComputedRecord):
    """The record of a step.

    Attributes:
        step: the step.
        canonical: true if the numbers are those of a canonical run (`Config.canonical`).
        selfcheck: the measurements of the model's self-check.
        spec: the spec of the model's family.
        special_tokens: the special tokens that the tokenizer adds to a prompt.
    """

    step: str
    canonical: bool
    selfcheck: Values
    spec: ModelSpec
    special_tokens: list[str] = []


class MadeWith(BaseModel):
    """The data that decide StepD's outputs.

    Attributes:
        source: SHA-256 of the relation data, or of the trials that are replayed.
        relations: {relation: digest of its pairs}; null if trials are replayed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    relations: dict[str, str] | None


class StepDRecord(StepRecord):
    """`stepD_meta.json`."""

    due = (SNAPSHOT, "cie_scores.csv", "cie_trials.npz", "trial_metrics.jsonl")
    step: Literal["stepD"] = "stepD"
    made_with: MadeWith


class StepERecord(StepRecord):
    """`fv_global_resid_meta.json`.

    Attributes:
        d_model: the width of the residual stream.
        k: the number of heads of each vector.
        score_key: the column that ranked the heads.
        heads: the heads of the global vector with rank, layer, head and score, the best one first.
        norm: the norm of the global vector.
    """

    due = (TOP_HEADS, "fv_global_resid.pt", "fv_qid.pt")
    step: Literal["stepE"] = "stepE"
    d_model: int
    k: int
    score_key: str
    heads: list[Values]
    norm: float


class AieRecord(StepRecord):
    """`fv_meta.json` of an AIE subset's package; `aie_id` is the name of its folder."""

    step: Literal["stepE-aie"] = "stepE-aie"
    aie_id: str


class Step6Record(StepRecord):
    """`eval_meta.json` (spec sections 4 and 7.2).

    Attributes:
        eval_scope: the mode that chose the relations of the evaluation.
        eval_qids: the relations of the evaluation.
        eval_split: the trials of the evaluation, `eval` or `fit`.
        fv: the kinds of vectors, as `injection.fv` names them.
        fv_source_qid: the relation of the vector, if one is named.
        trials_per_qid: {relation: number of its trials}.
        dropped_qids: the relations that had too few pairs.
        counts: {relation: numbers of requested trials and of existing trials}.
        n_eval_trials: the number of all trials.
        gathered_cells: the jobs of a sweep that were gathered; null for a single job.
    """

    due = ("eval_trials.jsonl", "eval_summary.json")
    step: Literal["step6"] = "step6"
    eval_scope: str
    eval_qids: list[str]
    eval_split: str
    fv: str | list[str]
    fv_source_qid: str | None
    trials_per_qid: dict[str, int]
    dropped_qids: list[str]
    counts: dict[str, QidCounts]
    n_eval_trials: int
    gathered_cells: list[str] | None = None


class AnalysisRecord(ComputedRecord):
    """`analysis_meta.json`.

    Attributes:
        analysis: the name of the analysis.
        after: the step whose outputs it reads.
    """

    analysis: str
    after: str


class SeedsRecord(Record):
    """`over_seeds.json`: averages of the Step6 results of runs that differ in their seed.

    Attributes:
        seeds: the seeds.
        runs: {Step6 folder: SHA-256 of its summary}.
        held_out: rows of `held_out.csv`.
        contrasts: rows of `contrasts.csv`.
    """

    seeds: list[int]
    runs: dict[str, str]
    held_out: list[Values]
    contrasts: list[Values]


R = TypeVar("R", bound=Record)


def write_record(path: Path, record: Record) -> None:
    """Write a record, with the digest of its values."""
    plain = json.loads(json.dumps(record.model_dump(mode="json"), allow_nan=False))
    write_json(path, {**plain, DIGEST: digest_of(plain)})


def read_record(path: Path, kind: type[R]) -> R:
    """Read a record.

    Args:
        path: its file.
        kind: the class of the record.

    Raises:
        ArtifactError: the file is missing, damaged or was changed; it has another schema version or another kind; or
            it names a file outside its folder.
    """
    try:
        values = read_json(path)
    except ArtifactError as error:
        raise error if not path.exists() else ArtifactError(f"{error} {REMEDY}") from None
    if not isinstance(values, dict) or "schema_version" not in values or "status" not in values:
        raise ArtifactError(f"{path} is not the record of a step. {REMEDY}")
    if values.pop(DIGEST, None) != digest_of(values):
        raise ArtifactError(f"{path} was changed or damaged since it was written: its digest is another. {REMEDY}")
    try:
        record = kind.model_validate(migrated(values))
        if lacking := sorted(kind.model_fields.keys() - record.model_fields_set):
            raise ArtifactError(f"It lacks {', '.join(lacking)}. {REMEDY}")
        return record
    except ArtifactError as error:
        raise ArtifactError(f"{path} cannot be read. {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "in all"
        raise ArtifactError(f"{path} is not the record of a step: {where}: {first['msg']}. {REMEDY}") from None
