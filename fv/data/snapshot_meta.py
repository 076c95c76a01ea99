"""The record of a snapshot: the source of its trials, and the settings that they were sampled with."""

from typing import Literal

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
