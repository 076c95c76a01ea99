"""The interface of engines, and the numbers that they compute.

The engines offer the same calls and agree within float32 rounding: `naive`, one full forward per edit, the readable
oracle; `shared_prefix`, which runs each prompt's prefix once; and `expanded_batch`, for families for whose attention
the shared prefix would not be exact.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from fv.config.checks import check_index, check_strength
from fv.interventions.edit import LastTokenEdit
from fv.interventions.metrics import is_tied, rank_of, target_logprob
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress


class _Cell(NamedTuple):
    layer: int
    alpha: float


class Cell(_Cell):
    """One point of the injection grid: add `alpha * vector` to the residual stream after block `layer`.

    Raises:
        ConfigError: the layer is not a whole number of 0 or more, or alpha is not finite.

    Example:
        >>> fv.Cell(layer=11, alpha=2.0).layer
        11
    """

    __slots__ = ()

    def __new__(cls, layer: int, alpha: float) -> "Cell":
        check_strength("Cell.alpha", alpha)
        return super().__new__(cls, check_index("Cell.layer", layer), alpha)


class _Head(NamedTuple):
    layer: int
    head: int


class Head(_Head):
    """One attention head.

    Raises:
        ConfigError: the layer or the head is not a whole number of 0 or more.

    Example:
        >>> fv.Head(layer=14, head=1).head
        1
    """

    __slots__ = ()

    def __new__(cls, layer: int, head: int) -> "Head":
        return super().__new__(cls, check_index("Head.layer", layer), check_index("Head.head", head))


SCORED = ("logprob", "rank", "tied")
"""Names of the parts of scores; each is an array in a unit that keeps them."""


@dataclass(frozen=True)
class TargetScores:
    """The model's ratings of target tokens; all tensors have the shape of the requested rows.

    Attributes:
        logprob: natural log probability of the target, float64.
        rank: number of other tokens that are rated as high as the target or higher, int64; 0 means that the model is
            right.
        tied: whether the target shares the highest score with another token, bool; then the model is not right.
    """

    logprob: Tensor
    rank: Tensor
    tied: Tensor

    @property
    def p(self) -> Tensor:
        return self.logprob.exp()

    @property
    def correct(self) -> Tensor:
        return self.rank == 0

    @classmethod
    def of_logits(cls, logits: Tensor, targets: Tensor) -> "TargetScores":
        """Score `targets` (rows,) under `logits` (rows, vocabulary)."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        found = (target_logprob(logits, targets).double(), rank_of(logits, targets), is_tied(logits, targets))
        return cls(*(part.cpu() for part in found))

    @property
    def parts(self) -> list[Tensor]:
        """The tensors, in the order of `SCORED`."""
        return [getattr(self, name) for name in SCORED]

    @classmethod
    def cat(cls, scores: Sequence["TargetScores"], dim: int = 0) -> "TargetScores":
        """Join along an axis."""
        return cls(*(torch.cat(part, dim) for part in zip(*(own.parts for own in scores), strict=True)))

    @classmethod
    def stack(cls, scores: Sequence["TargetScores"], dim: int = 0) -> "TargetScores":
        """Join along a new axis."""
        return cls(*(torch.stack(part, dim) for part in zip(*(own.parts for own in scores), strict=True)))

    def __getitem__(self, index: Any) -> "TargetScores":
        return TargetScores(*(part[index] for part in self.parts))

    def reshape(self, *shape: int) -> "TargetScores":
        return TargetScores(*(part.reshape(shape) for part in self.parts))


class LastToken(NamedTuple):
    """The states and scores of unedited prompts at their last token.

    Attributes:
        scores: the prompts' scores, (n_prompts,).
        head_outputs: (n_prompts, n_layers, n_heads, head_dim).
        residual: the residual stream after each block, (n_prompts, n_layers, d_model).
    """

    scores: TargetScores
    head_outputs: Tensor
    residual: Tensor

    @classmethod
    def cat(cls, parts: Sequence["LastToken"]) -> "LastToken":
        """Join along the prompts."""
        scores, *tensors = zip(*parts, strict=True)
        return cls(TargetScores.cat(scores), *map(torch.cat, tensors))


class PatchScores(NamedTuple):
    """The effect of patching heads, one at a time, on prompts.

    Attributes:
        unedited: the unedited prompts.
        unpatched: log probability of the target without a patch, from the same pass as `patched`, (n_prompts, n_heads)
            float64.
        patched: log probability of the target with the head patched, (n_prompts, n_heads) float64.
    """

    unedited: LastToken
    unpatched: Tensor
    patched: Tensor


NOT_ASKED, NOT_FINITE = -1, -2
"""Placeholders for a token that is not needed, and for one that cannot be found because scores are not finite."""


@dataclass(frozen=True)
class AnswerReads:
    """The model's ratings of a prompt's answer of n tokens, under several edits of the last prompt token.

    Attributes:
        scores: the scores of each token of the answer given the tokens before it, (n_edits, n).
        logit_difference: the logit of its first token minus the highest logit of the prompt's `wrong` tokens,
            (n_edits,) float64; None without wrong tokens.
        likeliest: the likeliest token after the prompt and after each token of the answer, the first one of a tie,
            (n_edits, n + 1) int64. The last of them is `NOT_ASKED` if an earlier one is not the answer's, and
            `NOT_FINITE` if scores are not finite.
        end_tied: whether another token is as likely as the last of `likeliest`, (n_edits,) bool.
    """

    scores: TargetScores
    logit_difference: Tensor | None
    likeliest: Tensor
    end_tied: Tensor

    @classmethod
    def cat(cls, reads: Sequence["AnswerReads"]) -> "AnswerReads":
        """Join along the edits."""
        differences = [own.logit_difference for own in reads if own.logit_difference is not None]
        return cls(
            TargetScores.cat([own.scores for own in reads]),
            torch.cat(differences) if differences else None,
            torch.cat([own.likeliest for own in reads]),
            torch.cat([own.end_tied for own in reads]),
        )

    def __getitem__(self, edits: Tensor) -> "AnswerReads":
        difference = None if self.logit_difference is None else self.logit_difference[edits]
        return AnswerReads(self.scores[edits], difference, self.likeliest[edits], self.end_tied[edits])


def check_vectors(prompts: Sequence[Prompt], vectors: Tensor, d_model: int) -> None:
    """Refuse vectors of a wrong shape, which would otherwise broadcast.

    Raises:
        ValueError: they are not (n_prompts, n_vectors, d_model).
    """
    if vectors.ndim != 3 or (len(vectors), vectors.shape[2]) != (len(prompts), d_model):
        raise ValueError(f"vectors are {tuple(vectors.shape)}, where ({len(prompts)}, n_vectors, {d_model}) is due")


class Engine(Protocol):
    """Runs prompts with and without edits at their last token.

    Attributes:
        lm: the model.
    """

    lm: LanguageModel

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        """The prompts of each pass, as slices in order.

        Appended prompts change none of the full batches, and a list that is cut between two batches keeps its batches.

        Args:
            prompts: the prompts.
            rows_each: rows of a pass per prompt, including its unedited last token.
        """
        ...

    def last_token(self, prompts: Sequence[Prompt]) -> LastToken:
        """Run unedited prompts."""
        ...

    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        """Set one head's last-token output to its value in `head_values`, one head at a time.

        Args:
            prompts: the (corrupted) prompts.
            head_values: (n_layers, n_heads, head_dim), the values to patch in.
            heads: the heads to patch, each on its own.
            advance: progress callback, called with the number of prompts done.
        """
        ...

    def inject(
        self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        """Add each of a prompt's vectors to its last token's residual stream at each cell.

        No bit of a vector's numbers depends on the other vectors and cells.

        Args:
            prompts: the (zero-shot) prompts.
            vectors: (n_prompts, n_vectors, d_model); prompts may have different vectors, but equally many.
            cells: the (layer, alpha) pairs.
            advance: progress callback, called with the number of (prompt, vector, cell) rows done.

        Returns:
            baseline scores (n_prompts,) and injected scores (n_prompts, n_vectors, n_cells).
        """
        ...

    def target_logprobs(self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit]) -> Tensor:
        """Log probability of each prompt's target under each edit: (n_prompts, n_edits) float64."""
        ...

    def answers(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], advance: Advance = ignore_progress
    ) -> list[AnswerReads]:
        """Each prompt's whole answer under each edit; `advance` is called with (prompt, edit) rows done."""
        ...

    def divergences(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        reference: Sequence[Prompt] | None = None,
    ) -> Tensor:
        """KL(reference ‖ edited) of the token after each prompt, in nats.

        Args:
            prompts: the prompts.
            edits: the edits.
            reference: for each prompt, the prompt that is run unedited as its reference; None for the prompt itself.

        Returns:
            (n_prompts, n_edits) float64.
        """
        ...

    def keeping(self, most_bytes: int) -> AbstractContextManager[None]:
        """Inside the block, keep prompts that were run, up to `most_bytes`, for later calls with the same prompts."""
        ...


class ScreeningEngine(Engine, Protocol):
    """An engine that can also estimate the effects of heads."""

    def head_scores(
        self,
        prompts: Sequence[Prompt],
        head_values: Tensor,
        method: str,
        points: int,
        advance: Advance = ignore_progress,
    ) -> Tensor:
        """Estimate the effects of all heads (`fv.interventions.head_scores`) on one of `batches`.

        Prompts that are kept are not run again.

        Returns:
            (n_prompts, n_layers, n_heads) float64.
        """
        ...
