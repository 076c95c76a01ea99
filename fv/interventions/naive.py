"""The oracle: one full forward, batch of one, for every edit. Slow and obviously right.

`fv.interventions.shared_prefix` must agree with it; tests and the self-check at load compare the two.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from fv.interventions.engine import (
    Advance,
    Cell,
    Head,
    LastToken,
    PatchScores,
    TargetScores,
    check_vectors,
    ignore_progress,
)
from fv.interventions.hooks import Edit, edit_block_output, edit_head_outputs, record_head_outputs, record_residuals
from fv.interventions.passes import in_engine_pass
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class NaiveEngine:
    """Implements `fv.interventions.engine.Engine` with nothing shared between forwards."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        del rows_each
        return [slice(i, i + 1) for i in range(len(prompts))]

    @in_engine_pass
    def last_token(self, prompts: Sequence[Prompt]) -> LastToken:
        lm, found = self.lm, []
        for prompt in prompts:
            outputs: dict[int, Tensor] = {}
            residual: dict[int, Tensor] = {}
            with record_head_outputs(lm, range(lm.n_layers), None, outputs), record_residuals(lm, residual):
                scores = self._forward(prompt)
            # (1, n_layers, n_heads * head_dim) -> (1, n_layers, n_heads, head_dim)
            by_layer = torch.stack([outputs[layer].to(lm.device) for layer in range(lm.n_layers)], 1)
            by_head = by_layer.unflatten(-1, (lm.n_heads, lm.head_dim))
            residuals = torch.stack([residual[layer].to(lm.device) for layer in range(lm.n_layers)], 1)
            found.append(LastToken(scores, by_head, residuals))
        return LastToken.cat(found)

    @in_engine_pass
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        own, patched = [], []
        for prompt in prompts:
            own.append(self.last_token([prompt]))
            for head in heads:
                with edit_head_outputs(self.lm, head.layer, self.patch(head, head_values)):
                    patched.append(self._forward(prompt).logprob)
            advance(1)
        unedited = LastToken.cat(own)
        shape = (len(prompts), len(heads))
        unpatched = unedited.scores.logprob[:, None].expand(shape).clone()
        return PatchScores(unedited, unpatched, torch.cat(patched).reshape(shape))

    @in_engine_pass
    def inject(
        self,
        prompts: Sequence[Prompt],
        vectors: Tensor,
        cells: Sequence[Cell],
        advance: Advance = ignore_progress,
        apart: bool = False,
    ) -> tuple[TargetScores, TargetScores]:
        del apart  # every forward is alone
        check_vectors(prompts, vectors, self.lm.d_model)
        baseline, injected = [], []
        for prompt, own in zip(prompts, vectors.to(self.lm.device, self.lm.dtype), strict=True):
            forward = self._forward_of(prompt)
            baseline.append(forward())
            for vector in own:
                for cell in cells:
                    with edit_block_output(self.lm, cell.layer, self._add(cell.alpha * vector)):
                        injected.append(forward())
                    advance(1)
        shape = (len(prompts), vectors.shape[1], len(cells))
        return TargetScores.cat(baseline), TargetScores.cat(injected).reshape(*shape)

    def _forward_of(self, prompt: Prompt) -> Callable[[], TargetScores]:
        """How `inject` runs a prompt, again and again under different edits; returns (1,) scores."""
        return partial(self._forward, prompt)

    def _forward(self, prompt: Prompt) -> TargetScores:
        ids = torch.tensor([prompt.token_ids], device=self.lm.device)  # (1, n_tokens)
        logits = self.lm.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits  # (1, 1, vocabulary)
        return TargetScores.of_logits(logits[:, -1], torch.tensor([prompt.target], device=self.lm.device))

    def patch(self, head: Head, head_values: Tensor) -> Edit:
        """The edit that sets one head's last-token output to its value in `head_values`."""
        value = head_values[head.layer, head.head].to(self.lm.device, self.lm.dtype)
        columns = self.lm.head_slice(head.head)

        def edit(head_outputs: Tensor) -> Tensor:
            edited = head_outputs.clone()
            edited[:, -1, columns] = value.to(edited.device)
            return edited

        return edit

    @staticmethod
    def _add(vector: Tensor) -> Edit:
        def edit(residual: Tensor) -> Tensor:
            edited = residual.clone()
            edited[:, -1] += vector.to(edited.device)
            return edited

        return edit
