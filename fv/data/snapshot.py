"""The snapshot of sampled trials, `sampled_trials.json`: all later steps read trials from it (spec section 5)."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer, ValidationError, WithJsonSchema, model_validator

from fv.characters import visible
from fv.data.relations import Pair
from fv.errors import ArtifactError, shorten
from fv.files import read_json, write_json

SCHEMA_VERSION = 1
WrongOutputs = Literal["deranged", "relation", "permuted"]
"""The sources of a corrupted prompt's outputs (`Trial`)."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


_PAIR = {"type": "object", "properties": {"exA": {"type": "string"}, "exB": {"type": "string"}}}
_Pair = Annotated[Pair, PlainSerializer(Pair._asdict), WithJsonSchema({**_PAIR, "required": ["exA", "exB"]})]
"""A pair that is written as a JSON object; a plain tuple would become a list."""


class Trial(_Strict):
    """One query with its demonstrations, right and wrong, as text and as token ids.

    `corruption` is the source of the wrong outputs: `deranged` among the demonstrations, drawn from the `relation`, or
    `permuted` among the demonstrations, so that some may stay right. `target_in_corrupted` says whether the right
    answer is an output of the corrupted demonstrations.
    """

    trial_id: str
    q_id: str
    split: Literal["fit", "eval"]
    demos: list[_Pair]
    corrupted_demos: list[_Pair]
    corruption: WrongOutputs
    target_in_corrupted: bool
    query: _Pair
    clean_prompt_str: str
    corrupted_prompt_str: str
    zero_shot_prompt_str: str
    target_str: str
    target_first_token_id: int
    target_token_ids: list[int]

    def __repr__(self) -> str:
        return f"Trial({self.trial_id!r}: {self.query.exA!r} → {self.query.exB!r}, {len(self.demos)} demos)"

    __str__ = __repr__

    @model_validator(mode="after")
    def _first_token_is_first(self) -> "Trial":
        if not self.target_token_ids or self.target_token_ids[0] != self.target_first_token_id:
            raise ValueError("target_first_token_id is not the first of target_token_ids")
        return self


class QidCounts(_Strict):
    """Numbers of trials of one relation: requested, and sampled."""

    fit_asked: int
    fit: int
    eval_asked: int
    eval: int


class Rejections(_Strict):
    """Number of candidate trials of one relation that could not be used, with the first reasons."""

    n_rejected: int
    reasons: list[str]


class SourceFile(_Strict):
    """A file by its path and digest."""

    path: str
    sha256: str


class Collisions(_Strict):
    """Counts of a relation's distinct outputs, and of those that share their first token with another."""

    n_outputs: int
    n_colliding: int
    rate: float


class Meta(_Strict):
    """The source of the trials, and the settings that they were sampled with.

    `corruption` is the requested one. `hold_out` says what fit prompts hide of an eval query. `clusters` has the
    cluster of each relation that has one: relations about the same words, which are not independent cases, share one.
    """

    schema_version: Literal[1]
    seed: int
    n_demos: int
    split_policy: Literal["held_out", "shared"]
    hold_out: Literal["queries", "outputs"]
    corruption: Literal["derange", "permute"]
    add_special_tokens: bool
    template: dict[str, str]
    tokenizer: dict[str, str]
    relation_csv: SourceFile
    columns: dict[str, str]
    counts: dict[str, QidCounts]
    dropped_qids: list[str]
    rejections: dict[str, Rejections]
    duplicates: dict[str, int]
    one_to_many: dict[str, int]
    first_token_collisions: dict[str, Collisions]
    replayed_from: SourceFile | None
    clusters: dict[str, str]


class Snapshot(_Strict):
    """All trials of a run, sorted by relation, split and number."""

    meta: Meta
    trials: list[Trial]

    def __repr__(self) -> str:
        return visible(f"Snapshot({len(self.trials)} trials of {shorten(self.qids)})")

    __str__ = __repr__

    @model_validator(mode="after")
    def _ids_are_unique(self) -> "Snapshot":
        ids = [trial.trial_id for trial in self.trials]
        if len(set(ids)) != len(ids):
            raise ValueError("two trials have the same trial_id")
        return self

    @property
    def qids(self) -> list[str]:
        """The relations that have trials, sorted."""
        return sorted({trial.q_id for trial in self.trials})

    def of(self, q_id: str, split: str, at_most: int | None = None) -> list[Trial]:
        """The trials of one relation and split, in order."""
        return [t for t in self.trials if t.q_id == q_id and t.split == split][:at_most]

    def evaluated(self, q_id: str, at_most: int | None = None) -> list[Trial]:
        """The trials of one relation that vectors are evaluated on, in order.

        If these are the fit trials (a shared split), a query may have several. Their zero-shot prompts are the same, so
        only the first trial of each query is taken.
        """
        trials = self.of(q_id, self.eval_split)
        if self.meta.split_policy == "shared":
            first: dict[Pair, Trial] = {}
            for trial in trials:
                first.setdefault(trial.query, trial)
            trials = list(first.values())
        return trials[:at_most]

    def only(self, qids: Collection[str]) -> "Snapshot":
        """The snapshot with the trials and records of the given relations only."""
        by_qid = ("counts", "rejections", "duplicates", "one_to_many", "first_token_collisions", "clusters")
        kept = {name: {q: value for q, value in getattr(self.meta, name).items() if q in qids} for name in by_qid}
        dropped = [q_id for q_id in self.meta.dropped_qids if q_id in qids]
        meta = self.meta.model_copy(update={**kept, "dropped_qids": dropped})
        return self.model_copy(update={"trials": [t for t in self.trials if t.q_id in qids], "meta": meta})

    @property
    def eval_split(self) -> str:
        """The split that vectors are evaluated on."""
        return "fit" if self.meta.split_policy == "shared" else "eval"


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write `sampled_trials.json`."""
    write_json(path, snapshot.model_dump(mode="json"))


def parse_snapshot(value: Any, path: Path) -> Snapshot:
    """Check a JSON value against the schema.

    Raises:
        ArtifactError: the value does not fit; names the file, the field and the reason.
    """
    try:
        return Snapshot.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise ArtifactError(
            f"{path} is not a trial snapshot of schema {SCHEMA_VERSION}: {where}: {first['msg']} "
            f"({error.error_count()} problems in all)."
        ) from None


def read_snapshot(path: Path) -> Snapshot:
    """Read and check a snapshot.

    Raises:
        ArtifactError: the file is missing, truncated, or does not fit the schema.
    """
    return parse_snapshot(read_json(path), path)
