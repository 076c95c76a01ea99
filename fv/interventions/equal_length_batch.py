"""Prompts of equal length whose prefix is cached once, and whose last token can be run again block by block.

The model's own attention runs on its own cache, so this is right for every family; `fv.interventions.prompt_batch` is
the counterpart for those that share prefixes, which takes prompts of any lengths and many rows of each.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from fv.interventions.hooks import record_head_outputs, residual_of
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class EqualLengthBatch:
    """A batch of prompts, equally long.

    Attributes:
        targets: (batch,) target token ids.
        residual: per layer the last token's residual stream entering it, and last the one leaving the last block;
            each (batch, 1, d_model), on the device of the block that it leaves.
        head_outputs: per layer the last token's head outputs, (batch, n_heads * head_dim), on the layer's device.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> None:
        self.lm = lm
        self.targets = torch.tensor([prompt.target for prompt in prompts], device=lm.device)
        self.residual: list[Tensor] = []
        self.head_outputs: dict[int, Tensor] = {}
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        ids = torch.tensor([list(prompt.token_ids) for prompt in prompts], device=lm.device)  # (batch, tokens)
        self._cache: Any = None
        if ids.shape[1] > 1:
            self._cache = lm.model.base_model(input_ids=ids[:, :-1], use_cache=True).past_key_values
        self._prefix = [] if self._cache is None else [copy(layer) for layer in self._cache.layers]
        self._run_last_token(ids)

    def run_block(self, layer: int, rows: Tensor) -> Tensor:
        """Run block `layer` on rows (batch, 1, d_model) as the last token would run through it."""
        if self._cache is not None:
            # A block appends to its cache. The copy is of references: what is kept of the prefix stays as it is.
            self._cache.layers[layer] = copy(self._prefix[layer])
        args, kwargs = self._calls[layer]
        return residual_of(self.lm.blocks[layer](rows, *args, **kwargs), self._path, self.lm.spec.tuple_output)

    def _run_last_token(self, ids: Tensor) -> None:
        """Run the last tokens, and learn what each block is called with there."""

        def note(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.residual.append(residual_of(args[0] if args else None, self._path, False))
            self._calls.append((args[1:], kwargs))

        handles = [block.register_forward_pre_hook(note, with_kwargs=True) for block in self.lm.blocks]
        try:
            with record_head_outputs(self.lm, range(self.lm.n_layers), None, self.head_outputs):
                self.lm.model.base_model(
                    input_ids=ids[:, -1:],
                    attention_mask=torch.ones_like(ids),
                    past_key_values=self._cache,
                    use_cache=self._cache is not None,
                )
        finally:
            for handle in handles:
                handle.remove()
        self.residual.append(self.run_block(self.lm.n_layers - 1, self.residual[-1]))

    @property
    def _path(self) -> str:
        return self.lm.spec.blocks
