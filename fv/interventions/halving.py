"""The halving engine: its passes get smaller when memory runs out, and its numbers are checked to be finite.

A call that runs out of memory is repeated as a whole, in passes half as large, down to one prompt or two rows. So all
numbers of a call come from passes of one size, and differ from those of another size by rounding only. The results of
every call are checked (`fv.interventions.finite_check`): with any engine, a number that is not finite is an error.
"""

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch
from torch import Tensor

from fv.errors import MemoryLackError
from fv.interventions.edit import LastTokenEdit
from fv.interventions.engine import AnswerReads, Cell, Head, LastToken, PatchScores, TargetScores
from fv.interventions.finite_check import FiniteCheck
from fv.interventions.gradient_scores import head_scores
from fv.interventions.memory import FEWEST_ROWS
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.interventions.training import Descent, EditOf, Parameters, Trained, TrainingEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress

R = TypeVar("R")
TOLD = ("not enough memory", "can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""Words of torch's errors about memory that have no class of their own."""
log = logging.getLogger(__name__)


class HalvingEngine:
    """Implements `fv.interventions.training.TrainingEngine` by another engine.

    Args:
        lm: the model.
        make: makes the engine for a number of rows.
        max_rows: most token rows in one pass, at first.

    Attributes:
        engine: the engine that runs the passes, for the current `max_rows`.
        max_rows: most token rows in one pass, at present.
        when_halved: called with `max_rows` whenever it has changed.
    """

    def __init__(self, lm: LanguageModel, make: Callable[[int], TrainingEngine], max_rows: int) -> None:
        self.lm = lm
        self.max_rows = max_rows
        self.engine = make(max_rows)
        self.when_halved: Callable[[int], None] = ignore_progress
        self._make = make
        self._asked, self._asked_rows = self.engine, max_rows
        self._kept: ExitStack | None = None  # of `keeping`

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        """Batches for the first `max_rows`: units of work have the same trials whether memory ran out or not."""
        return self._asked.batches(prompts, rows_each)

    def last_token(self, prompts: Sequence[Prompt]) -> LastToken:
        found = self._tried(lambda engine, _: engine.last_token(prompts))
        FiniteCheck(self.lm, prompts).last_token(found)
        return found

    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        found = self._tried(lambda engine, tell: engine.patch_heads(prompts, head_values, heads, tell), advance)
        FiniteCheck(self.lm, prompts).patched(found, heads)
        return found

    def inject(
        self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        found = self._tried(lambda engine, tell: engine.inject(prompts, vectors, cells, tell), advance)
        FiniteCheck(self.lm, prompts).injected(*found, cells)
        return found

    def target_logprobs(self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit]) -> Tensor:
        found = self._tried(lambda engine, _: engine.target_logprobs(prompts, edits))
        FiniteCheck(self.lm, prompts).edited(found, edits)
        return found

    def answers(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], advance: Advance = ignore_progress
    ) -> list[AnswerReads]:
        found = self._tried(lambda engine, tell: engine.answers(prompts, edits, tell), advance)
        FiniteCheck(self.lm, prompts).answers(found, edits)
        return found

    def divergences(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        reference: Sequence[Prompt] | None = None,
    ) -> Tensor:
        found = self._tried(lambda engine, _: engine.divergences(prompts, edits, reference))
        FiniteCheck(self.lm, prompts).edited(found, edits)
        return found

    def head_scores(
        self,
        prompts: Sequence[Prompt],
        head_values: Tensor,
        method: str,
        points: int,
        advance: Advance = ignore_progress,
    ) -> Tensor:
        """Scores of all heads (`fv.interventions.head_scores`) for one of `batches`; kept prompts are not run again."""

        def score(engine: TrainingEngine, tell: Advance) -> Tensor:
            run = engine.run_prompts if isinstance(engine, SharedPrefixEngine) else None
            # All prompts unless memory ran out: `run` takes the prompts of one pass.
            size = max(1, len(prompts) * self.max_rows // self._asked_rows)
            parts = [prompts[start : start + size] for start in range(0, len(prompts), size)]
            settings = (head_values, method, points, self.max_rows, tell, run)
            return torch.cat([head_scores(self.lm, part, *settings) for part in parts])

        found = self._tried(score, advance)
        FiniteCheck(self.lm, prompts).estimates(found)
        return found

    def trained(
        self,
        prompts: Sequence[Prompt],
        aside: Sequence[Prompt],
        parameters: Parameters,
        edit_of: EditOf,
        descent: Descent,
    ) -> Trained:
        return self._tried(lambda engine, _: engine.trained(prompts, aside, parameters, edit_of, descent))

    def part_outputs(self, prompts: Sequence[Prompt], part: str) -> Tensor:
        found = self._tried(lambda engine, _: engine.part_outputs(prompts, part))
        FiniteCheck(self.lm, prompts).part_outputs(found, part)
        return found

    @contextmanager
    def keeping(self, most_bytes: int) -> Iterator[None]:
        """Keep prompts inside the block; when memory runs out, release them and keep no more."""
        if self._kept is not None:
            yield
            return
        try:
            with ExitStack() as self._kept:
                self._kept.enter_context(self.engine.keeping(most_bytes))
                yield
        finally:
            self._kept = None

    def _tried(self, work: Callable[[TrainingEngine, Advance], R], advance: Advance = ignore_progress) -> R:
        """Do some work; repeat it in smaller passes as long as memory runs out, and once more at the smallest size.

        Raises:
            MemoryLackError: one prompt alone does not fit.
        """
        progress, could_shrink = _Progress(advance), True
        while True:
            try:
                return work(self.engine, progress.advance)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if not could_shrink:
                    raise lack_of_memory(self.lm) from error
            # After the except block: the error is gone, and with it the tensors that it referred to.
            progress.begin_again()
            could_shrink = self._halve()

    def _halve(self) -> bool:
        """Release memory, and make passes half as large; returns whether they could be made smaller."""
        if self._kept is not None:
            self._kept.close()
        before, smaller = self.max_rows, max(FEWEST_ROWS, self.max_rows // 2)
        could_shrink = smaller < before
        if could_shrink:
            self.max_rows, self.engine = smaller, self._make(smaller)
            told = f"passes have {smaller} token rows at most from now on, and not {before}"
            log.warning("Memory ran out: %s. Numbers agree to 1e-5, but not to the byte.", told)
            self.when_halved(smaller)
        else:
            log.warning("Memory ran out in the smallest passes that there are: trying once more.")
        gc.collect()
        torch.cuda.empty_cache()
        return could_shrink


def is_out_of_memory(error: Exception) -> bool:
    """True if an error says that a device, or the CPU's allocator, has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in TOLD)


def lack_of_memory(lm: LanguageModel) -> MemoryLackError:
    """The error for a single prompt that does not fit."""
    return MemoryLackError(
        f"Memory ran out on {lm.device} with a single prompt of {lm.name} in a pass. Shorter prompts take less, and so "
        "do a narrower number format and weights on several devices."
    )


class _Progress:
    """Progress of work that may begin again: each step is reported once."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._done, self._told = 0, 0

    def advance(self, steps: int) -> None:
        self._done += steps
        if self._done > self._told:
            self._advance(self._done - self._told)
            self._told = self._done

    def begin_again(self) -> None:
        self._done = 0
