"""The expanded engine, exact for every family: each edit is a batch item on a copy of the prompt's cached prefix.

It costs more than the shared prefix: the cache is repeated for every row, and a row runs through all layers.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from fv.interventions import readout
from fv.interventions.edit import LastTokenEdit
from fv.interventions.edits.set_heads import SetHeads
from fv.interventions.engine import AnswerReads, Head, PatchScores, TargetScores
from fv.interventions.equal_length_batch import EqualLengthBatch
from fv.interventions.kept_prompts import KeptPrompts
from fv.interventions.naive import NaiveEngine
from fv.interventions.objectives import Part, RowObjective
from fv.interventions.passes import in_fused_pass
from fv.interventions.prompt_cache import PromptCache
from fv.interventions.scored_rows import answers_of, targets_of
from fv.interventions.training import Objective
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress

EDITS_TOGETHER = 32
"""Prompts share a pass as long as this many edits of each fit."""


class ExpandedBatchEngine(NaiveEngine):
    """Implements `fv.interventions.engine.Engine`; rows times tokens of a pass are at most `max_rows`.

    Unedited prompts run alone.
    """

    def __init__(self, lm: LanguageModel, max_rows: int) -> None:
        super().__init__(lm)
        self.max_rows = max_rows
        self._kept: KeptPrompts[PromptCache] = KeptPrompts()

    def keeping(self, most_bytes: int) -> AbstractContextManager[None]:
        return self._kept.keeping(most_bytes)

    @in_fused_pass
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        unpatched, patched = [], []
        for prompt in prompts:
            cache, step = self._run([prompt]), max(1, self._rows_that_fit([prompt]) - 1)
            for start in range(0, len(heads), step):
                edits = [SetHeads((head,), head_values) for head in heads[start : start + step]]
                scored = targets_of(self.lm, cache.rows([None, *edits]), [prompt])[0]
                unpatched.append(scored[:1].expand(len(edits)))  # row 0 of each pass is unpatched
                patched.append(scored[1:])
            advance(1)
        shape = (len(prompts), len(heads))
        return PatchScores(self.last_token(prompts), torch.cat(unpatched).view(shape), torch.cat(patched).view(shape))

    @in_fused_pass
    def target_logprobs(self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit]) -> Tensor:
        found = torch.empty(len(prompts), len(edits), dtype=torch.float64)
        for which, cache, chunks in self._batches(prompts, edits):
            here = [prompts[i] for i in which]
            found[which] = torch.cat([targets_of(self.lm, cache.rows(chunk), here) for chunk in chunks], 1)
        return found

    @in_fused_pass
    def answers(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], advance: Advance = ignore_progress
    ) -> list[AnswerReads]:
        found: dict[int, AnswerReads] = {}
        for which, cache, chunks in self._batches(prompts, edits, with_answers=True):
            here = [prompts[i] for i in which]
            after = torch.tensor([p.answer for p in here])
            parts = []
            for chunk in chunks:
                parts.append(answers_of(self.lm, cache.rows(chunk, after), here))
                advance(len(here) * len(chunk))
            for i, own in zip(which, zip(*parts, strict=True), strict=True):
                found[i] = AnswerReads.cat(own)
        return [found[i] for i in range(len(prompts))]

    @in_fused_pass
    def divergences(
        self,
        prompts: Sequence[Prompt],
        edits: Sequence[LastTokenEdit],
        reference: Sequence[Prompt] | None = None,
    ) -> Tensor:
        found = torch.empty(len(prompts), len(edits), dtype=torch.float64)
        others: dict[int, Tensor] = {}  # {number of a reference: its last row, (1, d_model)}
        for which, cache, _ in self._batches(reference or (), [None]):
            others |= zip(which, cache.rows([None])[:, 0], strict=True)
        for which, cache, chunks in self._batches(prompts, edits):
            own = [others[i] for i in which] if reference else cache.rows([None])[:, 0]  # (n_prompts, 1, d_model)
            rows = torch.cat([cache.rows(chunk)[:, :, 0] for chunk in chunks], 1)  # (n_prompts, n_edits, d_model)
            for i, before, after in zip(which, own, rows, strict=True):
                found[i] = readout.divergences(self.lm, before, after)
        return found

    def _objective(self, prompts: Sequence[Prompt]) -> Objective:
        alike: dict[int, list[int]] = defaultdict(list)
        for i, prompt in enumerate(prompts):
            alike[len(prompt.token_ids)].append(i)
        parts = []
        for every in alike.values():
            size = self._rows_that_fit([prompts[every[0]]])
            for which in (every[start : start + size] for start in range(0, len(every), size)):
                parts.append(Part(which, EqualLengthBatch(self.lm, [prompts[i] for i in which])))
        return RowObjective(self.lm, parts)

    def _forward_of(self, prompt: Prompt) -> Callable[[], TargetScores]:
        # One row per pass, so that a cell's numbers do not depend on the other requested cells.
        cache, target = self._run([prompt]), torch.tensor([prompt.target])
        return lambda: readout.target_scores(self.lm, cache.rows([None])[0, :, 0], target)

    def _batches(
        self, prompts: Sequence[Prompt], edits: Sequence[LastTokenEdit], with_answers: bool = False
    ) -> Iterator[tuple[list[int], PromptCache, list[Sequence[LastTokenEdit]]]]:
        """Yield prompts that share a pass: their places, their cache, and the edits in chunks that fit.

        They are equally long, and so are their answers `with_answers`.
        """
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, prompt in enumerate(prompts):
            alike[len(prompt.token_ids), len(prompt.answer) if with_answers else 0].append(i)
        for (_, n_after), every in sorted(alike.items()):
            fit = self._rows_that_fit([prompts[every[0]]], n_after)
            size = max(1, fit // EDITS_TOGETHER)
            for which in (every[start : start + size] for start in range(0, len(every), size)):
                step = max(1, fit // len(which))
                chunks = [edits[start : start + step] for start in range(0, len(edits), step)]
                yield which, self._run([prompts[i] for i in which]), chunks

    def _run(self, prompts: Sequence[Prompt]) -> PromptCache:
        return self._kept.of(prompts, lambda these: PromptCache(self.lm, [p.token_ids for p in these]))

    def _rows_that_fit(self, prompts: Sequence[Prompt], n_after: int = 0) -> int:
        return max(1, self.max_rows // (len(prompts[0].token_ids) + n_after))
