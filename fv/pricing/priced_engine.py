"""Priced engine: it has an engine's methods, but runs no model and only counts the operations that a run would need.

Its results are random numbers, so that choices based on them (cells, heads) are spread evenly.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

import torch
from torch import Tensor

from fv.interventions.edit import LastTokenEdit
from fv.interventions.engine import AnswerReads, Cell, Head, LastToken, PatchScores, TargetScores
from fv.interventions.kept_prompts import KeptPrompts
from fv.interventions.training import Descent, EditOf, Parameters, Trained
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.pricing.operations import Operations
from fv.pricing.shape import Shape
from fv.pricing.stand_in import StandIn
from fv.progress import Advance, ignore_progress

Entry = int | None
"""The block at which an edited row enters; None for an unedited one."""


class PricedBatch:
    """Prompts that were run together, as far as a price depends on them: their number, and their number of tokens."""

    def __init__(self, prompts: Sequence[Prompt], n_bytes: int) -> None:
        self.n = len(prompts)
        self.n_tokens = max(len(prompt.token_ids) for prompt in prompts)
        self.n_bytes = n_bytes


class PricedEngine(ABC):
    """Implementation of `fv.interventions.engine.Engine` that runs no model.

    Attributes:
        lm: the stand-in of the model.
        shape: the model's shape.
        max_rows: largest number of token rows in one pass.
        work: operations counted since the last call of `taken`.
        peak: peak memory above the weights since then, in bytes, with the prompts that are kept.
        prices_by_length: whether a call's price depends only on the lengths of its prompts, not on earlier calls
            (unless prompts are kept).
    """

    prices_by_length: ClassVar[bool] = False

    def __init__(self, lm: StandIn, shape: Shape, max_rows: int) -> None:
        self.lm: LanguageModel = lm
        self.shape = shape
        self.max_rows = max_rows
        self.work, self.peak = Operations(), 0
        self._choosing = Operations()
        self._kept: KeptPrompts[PricedBatch] = KeptPrompts(quiet=True)
        self._held = 0
        self._random = torch.Generator().manual_seed(0)
        # Estimates equal effects, so the screen finds the heads with the largest effects, and no random head enters.
        self._of_head = torch.rand((lm.n_layers, lm.n_heads), generator=self._random, dtype=torch.float64)

    @property
    def keeps(self) -> bool:
        """Tell whether prompts are kept at present."""
        return self._kept.is_keeping

    def taken(self) -> tuple[Operations, int]:
        """Return the operations and the peak memory since the last call, and start again from zero."""
        found = self.work, self.peak
        self.work, self.peak = Operations(), 0
        return found

    def keeping(self, most_bytes: int) -> AbstractContextManager[None]:
        return self._kept.keeping(most_bytes)

    @abstractmethod
    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        """Divide prompts into batches as the engine does."""

    @abstractmethod
    def price_last_token(self, prompts: Sequence[Prompt]) -> None:
        """Price unedited prompts."""

    @abstractmethod
    def price_patches(self, prompts: Sequence[Prompt], layers: Sequence[int]) -> None:
        """Price patching heads one at a time, each in its layer."""

    @abstractmethod
    def price_grid(self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell]) -> None:
        """Price injecting vectors, (n_prompts, n_vectors, width), at cells."""

    @abstractmethod
    def price_targets(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        """Price reading targets of rows that enter at these blocks."""

    @abstractmethod
    def price_answers(self, prompts: Sequence[Prompt], entries: Sequence[Entry]) -> None:
        """Price reading whole answers of rows that enter at these blocks."""

    @abstractmethod
    def price_divergences(
        self, prompts: Sequence[Prompt], entries: Sequence[Entry], reference: Sequence[Prompt] | None
    ) -> None:
        """Price comparing rows that enter at these blocks with unedited ones, of these prompts or of a reference."""

    @abstractmethod
    def price_scores(self, prompts: Sequence[Prompt], points: int) -> None:
        """Price scoring all heads (`fv.interventions.screening.head_scores`); 0 points mean `gradient`."""

    @abstractmethod
    def price_training(self, prompts: Sequence[Prompt], entry: int, steps: int) -> None:
        """Price training an edit whose rows enter at a block, with all steps (`fv.interventions.training`)."""

    @abstractmethod
    def price_part_outputs(self, prompts: Sequence[Prompt]) -> None:
        """Price reading the outputs of a part of every block."""

    def last_token(self, prompts: Sequence[Prompt]) -> LastToken:
        self.price_last_token(prompts)
        return self._unedited(len(prompts))

    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        del head_values, advance
        self.price_patches(prompts, [head.layer for head in heads])
        unedited = self._unedited(len(prompts))
        layers, numbers = zip(*heads, strict=True)
        patched = unedited.scores.logprob[:, None] + self._of_head[list(layers), list(numbers)]
        return PatchScores(unedited, patched, patched.exp())

    def inject(
        self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        del advance
        self.price_grid(prompts, vectors, cells)
        return self._scores(len(prompts)), self._scores(len(prompts), vectors.shape[1], len(cells))

    def taken_choices(self) -> Operations:
        """Return the operations of choices among edits (`target_logprobs`) since the last call, which `taken` lacks."""
        found, self._choosing = self._choosing, Operations()
        return found

    def target_logprobs(self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit]) -> Tensor:
        self.work, self._choosing = self._choosing, self.work
        self.price_targets(prompts, entries_of(edits))
        self.work, self._choosing = self._choosing, self.work
        return self._logprobs(len(prompts), len(edits))

    def answers(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], advance: Advance = ignore_progress
    ) -> list[AnswerReads]:
        del advance
        self.price_answers(prompts, entries_of(edits))
        n = len(edits)
        return [
            AnswerReads(
                self._scores(n, len(prompt.answer)),
                self._logprobs(n),
                torch.zeros(n, len(prompt.answer) + 1, dtype=torch.long),
                torch.zeros(n, dtype=torch.bool),
            )
            for prompt in prompts
        ]

    def divergences(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        reference: Sequence[Prompt] | None = None,
    ) -> Tensor:
        self.price_divergences(prompts, entries_of(edits), reference)
        return -self._logprobs(len(prompts), len(edits))

    def head_scores(
        self,
        prompts: Sequence[Prompt],
        head_values: Tensor,
        method: str,
        points: int,
        advance: Advance = ignore_progress,
    ) -> Tensor:
        """Return random estimates, (n_prompts, n_layers, n_heads) float64, and price them."""
        self.price_scores(prompts, points if method == "integrated" else 0)
        return self._of_head.expand(len(prompts), -1, -1).clone()

    def trained(
        self,
        prompts: Sequence[Prompt],
        aside: Sequence[Prompt],
        parameters: Parameters,
        edit_of: EditOf,
        descent: Descent,
    ) -> Trained:
        """Return the initial parameters, and price all steps: training may stop earlier."""
        every = [*prompts, *aside]
        self.price_training(every, edit_of(parameters).first_block, descent.steps)
        own = {name: value.detach().clone() for name, value in parameters.items()}
        path = self._logprobs(descent.steps + 1, len(every))
        return Trained(own, descent.steps, self._logprobs(len(every)), path, len(aside))

    def part_outputs(self, prompts: Sequence[Prompt], part: str) -> Tensor:
        del part
        self.price_part_outputs(prompts)
        return torch.zeros(len(prompts), self.lm.n_layers, self.lm.d_model)

    def _run(self, prompts: Sequence[Prompt]) -> PricedBatch:
        """Price running prompts together, unless they are kept. The previous batch is freed after the next has run."""
        ran: list[PricedBatch] = []

        def run(these: Sequence[Prompt]) -> PricedBatch:
            self.work.n_prompts += len(these)
            self.work.n_tokens += sum(len(prompt.token_ids) for prompt in these)
            ran.append(self._price_prompts(these))
            return ran[0]

        before = self._kept.n_bytes
        batch = self._kept.of(prompts, run)
        found_no_room = bool(ran) and self._kept.n_bytes == before
        self._held = self._kept.n_bytes + (batch.n_bytes if found_no_room else 0)
        return batch

    @abstractmethod
    def _price_prompts(self, prompts: Sequence[Prompt]) -> PricedBatch:
        """Price running prompts together."""

    def _needs(self, n_bytes: int) -> None:
        """Record memory that is needed at the same time, in addition to that of prompts that were run."""
        self.peak = max(self.peak, self._held + n_bytes)

    def _unedited(self, n: int) -> LastToken:
        lm = self.lm
        heads = torch.zeros(n, lm.n_layers, lm.n_heads, lm.head_dim)
        return LastToken(self._scores(n), heads, torch.ones(n, lm.n_layers, lm.d_model))

    def _scores(self, *shape: int) -> TargetScores:
        nothing = torch.zeros(shape, dtype=torch.long)
        return TargetScores(self._logprobs(*shape), nothing, nothing.bool())

    def _logprobs(self, *shape: int) -> Tensor:
        return -torch.rand(shape, generator=self._random, dtype=torch.float64)


def entries_of(edits: Sequence[LastTokenEdit]) -> list[Entry]:
    """Blocks at which the rows of edits enter."""
    return [None if edit is None else edit.first_block for edit in edits]
