"""The exact engine for every family: a prompt's prefix is cached once, each edit is a batch item on a copy of it.

It costs more than the shared prefix: the cache is repeated for every row, and a row runs through all layers.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from fv.interventions.edits import SetHeads
from fv.interventions.engine import Advance, Head, PatchScores, TargetScores, ignore_progress
from fv.interventions.naive import NaiveEngine
from fv.interventions.passes import in_engine_pass
from fv.interventions.prompt_cache import PromptCache
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class ExpandedBatchEngine(NaiveEngine):
    """An `Engine`; rows times tokens of a pass stay below `max_rows`. Unedited prompts run alone."""

    def __init__(self, lm: LanguageModel, max_rows: int) -> None:
        super().__init__(lm)
        self.max_rows = max_rows

    @in_engine_pass
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        unpatched, patched = [], []
        for prompt in prompts:
            cache = PromptCache(self.lm, [prompt.token_ids])
            scored = [
                self._score(cache, prompt, [None, *(SetHeads((head,), head_values) for head in chunk)])
                for chunk in self._chunks(prompt, heads)
            ]
            # Row 0 of each pass is unpatched.
            unpatched.append(torch.cat([s.logprob[:1].expand(len(s.logprob) - 1) for s in scored]))
            patched.append(torch.cat([s.logprob[1:] for s in scored]))
            advance(1)
        return PatchScores(self.last_token(prompts), torch.stack(unpatched), torch.stack(patched))

    def _forward_of(self, prompt: Prompt) -> Callable[[], TargetScores]:
        # One row a pass, so that an injected cell's numbers do not depend on which others were asked for.
        cache = PromptCache(self.lm, [prompt.token_ids])
        return lambda: self._score(cache, prompt, [None])

    def _score(self, cache: PromptCache, prompt: Prompt, edits: Sequence[SetHeads | None]) -> TargetScores:
        """Scores, (n_rows,), of one prompt's rows."""
        logits = cache.logits(edits)[0, :, 0]  # (n_rows, vocabulary)
        return TargetScores.of_logits(logits, torch.full((len(logits),), prompt.target, device=self.lm.device))

    def _chunks(self, prompt: Prompt, heads: Sequence[Head]) -> Iterator[Sequence[Head]]:
        step = max(1, self.max_rows // len(prompt.token_ids) - 1)
        return (heads[start : start + step] for start in range(0, len(heads), step))
