"""The cache of equally long prompts, on which rows of edited last tokens run, with tokens after them.

The model's own attention runs on its own cache, so this is exact for every family, including sliding windows, sinks,
soft-capped scores and position biases.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from fv.interventions.edit import LastTokenEdit
from fv.interventions.masks import check_masks
from fv.interventions.row_edits import edited_rows
from fv.models.language_model import LanguageModel


class PromptCache:
    """A batch of prompts of equal length without their last tokens.

    Args:
        lm: the model.
        prompts: the prompts' token ids, equally many for each.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
        self.lm = lm
        self.ids = torch.tensor([list(ids) for ids in prompts], device=lm.device)  # (n_prompts, tokens)
        self._cache: Any = None
        check_masks(lm, self.ids.shape[1], whole=False)
        if self.ids.shape[1] > 1:
            self._cache = lm.model.base_model(input_ids=self.ids[:, :-1], use_cache=True).past_key_values

    @property
    def n_bytes(self) -> int:
        """Memory of its tensors, in bytes."""
        layers = [] if self._cache is None else self._cache.layers
        return sum(part.nbytes for layer in layers for part in (layer.keys, layer.values) if part is not None)

    @torch.no_grad()
    def rows(self, edits: Sequence[LastTokenEdit], after: Tensor | None = None) -> Tensor:
        """Run each prompt's last token once per edit, with the tokens after it.

        Args:
            edits: edits of the last prompt token, one per row.
            after: token ids that follow the prompts, (n_prompts, n_after); none unless given.

        Returns:
            (n_prompts, n_rows, 1 + n_after, d_model), before the final norm.
        """
        n_rows, (n_prompts, tokens) = len(edits), self.ids.shape
        ids = self.ids[:, -1:] if after is None else torch.cat([self.ids[:, -1:], after.to(self.ids.device)], 1)
        cache = deepcopy(self._cache)
        if cache is not None:
            cache.batch_repeat_interleave(n_rows)
        found: list[Tensor] = []

        def keep(_norm: nn.Module, args: tuple[Any, ...]) -> None:
            found.append(args[0])

        handle = self.lm.final_norm.register_forward_pre_hook(keep)
        try:
            with edited_rows(self.lm, edits):
                self.lm.model.base_model(
                    input_ids=ids.repeat_interleave(n_rows, 0),
                    attention_mask=torch.ones(
                        n_prompts * n_rows, tokens - 1 + ids.shape[1], dtype=torch.long, device=ids.device
                    ),
                    past_key_values=cache,
                    use_cache=cache is not None,
                )
        finally:
            handle.remove()
        # (n_prompts * n_rows, 1 + n_after, d_model) -> (n_prompts, n_rows, 1 + n_after, d_model)
        return found[0].unflatten(0, (n_prompts, n_rows))
