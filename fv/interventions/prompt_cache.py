"""Prompts of one length whose prefix is cached once, with rows of edited last tokens, and tokens behind them, on top.

The model's own attention runs on its own cache, so this is right for every family: sliding windows, sinks, soft-capped
scores and position biases included.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor

from fv.interventions.edits import LastTokenEdit, edited_rows
from fv.models.language_model import LanguageModel


class PromptCache:
    """A batch of prompts of equal length without their last tokens.

    Args:
        lm: the model.
        prompts: token ids, equally many each.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
        self.lm = lm
        self.ids = torch.tensor([list(ids) for ids in prompts], device=lm.device)  # (n_prompts, tokens)
        self._cache = None
        if self.ids.shape[1] > 1:
            self._cache = lm.model.base_model(input_ids=self.ids[:, :-1], use_cache=True).past_key_values

    @torch.no_grad()
    def logits(self, edits: Sequence[LastTokenEdit], behind: Tensor | None = None) -> Tensor:
        """Run each prompt's last token once an edit, and what stands behind it.

        Args:
            edits: what is done to the last prompt token, one a row.
            behind: token ids that follow the prompts, (n_prompts, n_behind); none unless given.

        Returns:
            (n_prompts, n_rows, 1 + n_behind, vocabulary), float32 or wider: what comes next after the last prompt
            token and after each one behind it.
        """
        n_rows, (n_prompts, tokens) = len(edits), self.ids.shape
        ids = self.ids[:, -1:] if behind is None else torch.cat([self.ids[:, -1:], behind.to(self.ids.device)], 1)
        cache = deepcopy(self._cache)
        if cache is not None:
            cache.batch_repeat_interleave(n_rows)
        with edited_rows(self.lm, edits):
            logits = self.lm.model(
                input_ids=ids.repeat_interleave(n_rows, 0),
                attention_mask=torch.ones(
                    n_prompts * n_rows, tokens - 1 + ids.shape[1], dtype=torch.long, device=ids.device
                ),
                past_key_values=cache,
                use_cache=cache is not None,
            ).logits  # (n_prompts * n_rows, 1 + n_behind, vocabulary)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).unflatten(0, (n_prompts, n_rows))
