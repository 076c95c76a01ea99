"""The record of a snapshot: the source of its trials, and the settings that they were sampled with."""

from typing import Literal

from pydantic import Field

from fv.data.encoder import HasTokenizer
from fv.data.strict_model import StrictModel
from fv.errors import TrialError


class QidCounts(StrictModel):
    """Numbers of trials of one relation: requested, and sampled."""

    fit_asked: int
    fit: int
    eval_asked: int
    eval: int


class Rejections(StrictModel):
    """Number of candidate trials of one relation that could not be used, with the first reasons."""

    n_rejected: int
    reasons: list[str]


class SourceFile(StrictModel):
    """A file by its path and digest."""

    path: str
    sha256: str


class Collisions(StrictModel):
    """Counts of a relation's distinct outputs, and of those that share their first token with another."""

    n_outputs: int
    n_colliding: int
    rate: float


class Meta(StrictModel):
    """The source of the trials, and the settings that they were sampled with.

    `corruption` is the requested one; null in a snapshot from before there was a choice, where one repeated output
    among the demonstrations made all of a prompt's outputs come from the relation. `hold_out` says what fit prompts
    hide of an eval query. `clusters` has the cluster of each relation that has one: relations about the same words,
    which are not independent cases, share a cluster.
    """

    schema_version: Literal[1]
    seed: int
    n_demos: int
    split_policy: Literal["held_out", "shared"]
    hold_out: Literal["queries", "outputs"] = "queries"
    corruption: Literal["derange", "permute"] | None = None
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
    clusters: dict[str, str] = Field(default={})

    def cluster_of(self, q_id: str) -> str:
        """The cluster of a relation; a relation without one is its own cluster."""
        return self.clusters.get(q_id, q_id)

    def refuse_other_tokenizer(self, lm: HasTokenizer) -> None:
        """Refuse a model whose tokenizer is another than that of these trials.

        Raises:
            TrialError: the tokenizers differ; names both.
        """
        there, here = self.tokenizer["sha256"], lm.fingerprint["tokenizer_sha256"]
        if there != here:
            raise TrialError(
                f"trials were tokenised by another tokenizer than {lm.name}'s ({self.tokenizer['class']}, "
                f"{there[:12]}; here {here[:12]}): sample them with this model."
            )
