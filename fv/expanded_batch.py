"""The exact sweep for every family: a prompt's prefix is cached once, each edit is a batch item on a copy of it.

The model's own attention runs on its own cache, so sliding windows, sinks, soft-capped scores and position biases are
right by construction. It costs more than `fv.shared_prefix`: the cache is repeated for every row, and a row runs
through all layers.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from copy import deepcopy
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from fv.hooks import edit_head_outputs
from fv.models.language_model import LanguageModel
from fv.naive import NaiveSweep
from fv.sweep import Advance, Head, PatchScores, Prompt, TargetScores, ignore_progress

Edits = Sequence[AbstractContextManager[None]]


class ExpandedBatchSweep(NaiveSweep):
    """Implements `fv.sweep.Sweep`; rows times tokens of a pass stay below `max_rows`. Unedited prompts run alone."""

    def __init__(self, lm: LanguageModel, max_rows: int) -> None:
        super().__init__(lm)
        self.max_rows = max_rows

    @torch.no_grad()
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        lm, values = self.lm, head_values.to(self.lm.device, self.lm.dtype)

        def edits(chunk: Sequence[Head]) -> Edits:
            found = []
            for layer, rows in _rows_of_layer(chunk).items():

                def patch(head_outputs: Tensor, layer: int = layer, rows: list[int] = rows) -> Tensor:
                    # (rows, positions, n_heads * head_dim) -> (rows, positions, n_heads, head_dim)
                    by_head = head_outputs.clone().unflatten(-1, (lm.n_heads, lm.head_dim))
                    here = [chunk[row].head for row in rows]
                    by_head[[1 + row for row in rows], -1, here] = values[layer, here]
                    return by_head.flatten(-2)

                found.append(edit_head_outputs(lm, layer, patch))
            return found

        unedited, unpatched, patched = [], [], []
        for prompt in prompts:
            prefix = _Prefix(lm, prompt)
            scored = [prefix.score(1 + len(chunk), edits(chunk)) for chunk in self._chunks(prompt, heads)]
            unedited.append(scored[0][:1])
            # Row 0 of each pass is unpatched.
            unpatched.append(torch.cat([s.logprob[:1].expand(len(s.logprob) - 1) for s in scored]))
            patched.append(torch.cat([s.logprob[1:] for s in scored]))
            advance(1)
        return PatchScores(TargetScores.cat(unedited), torch.stack(unpatched), torch.stack(patched))

    def _forward_of(self, prompt: Prompt) -> Callable[[], TargetScores]:
        # One row a pass, so that an injected cell's numbers do not depend on which others were asked for.
        return partial(_Prefix(self.lm, prompt).score, 1, [])

    def _chunks(self, prompt: Prompt, heads: Sequence[Head]) -> Iterator[Sequence[Head]]:
        step = max(1, self.max_rows // len(prompt.token_ids) - 1)
        return (heads[start : start + step] for start in range(0, len(heads), step))


class _Prefix:
    """A prompt without its last token, cached."""

    def __init__(self, lm: LanguageModel, prompt: Prompt) -> None:
        self.lm, self.prompt = lm, prompt
        self.ids = torch.tensor([prompt.token_ids], device=lm.device)  # (1, tokens)
        self.cache = None
        if len(prompt.token_ids) > 1:
            self.cache = lm.model.base_model(input_ids=self.ids[:, :-1], use_cache=True).past_key_values

    def score(self, n_rows: int, edits: Edits) -> TargetScores:
        """Run the last token as `n_rows` batch items under the given edits; returns (n_rows,) scores."""
        cache = deepcopy(self.cache)
        if cache is not None:
            cache.batch_repeat_interleave(n_rows)
        with ExitStack() as stack:
            for edit in edits:
                stack.enter_context(edit)
            logits = self.lm.model(
                input_ids=self.ids[:, -1:].expand(n_rows, -1),
                attention_mask=torch.ones(n_rows, self.ids.shape[1], dtype=torch.long, device=self.lm.device),
                past_key_values=cache,
                use_cache=cache is not None,
            ).logits  # (n_rows, 1, vocabulary)
        return TargetScores.of_logits(logits[:, -1], torch.full((n_rows,), self.prompt.target, device=self.lm.device))


def _rows_of_layer(heads: Sequence[Head]) -> dict[int, list[int]]:
    order = sorted(range(len(heads)), key=lambda i: heads[i].layer)
    return {layer: list(rows) for layer, rows in groupby(order, key=lambda i: heads[i].layer)}
