"""The batch of equally long prompts: their prefix is cached once, and rows of last tokens run on it block by block.

The model's own attention runs on its own cache, with each row as a batch item, so this is exact for every family.
`fv.interventions.prompt_batch` is the counterpart for families that share prefixes.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from fv.interventions.hooks import BlockCall, noted_calls, record_head_outputs, residual_of
from fv.interventions.masks import check_masks
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class EqualLengthBatch:
    """A batch of equally long prompts.

    Attributes:
        n_tokens: tokens of each prompt.
        n_positions: tokens of a row.
        targets: (batch,) target token ids.
        residual: the last token's residual stream before each block, and then after the last block; each
            (batch, 1, d_model), on the device of the block that it leaves.
        head_outputs: per layer the last token's head outputs, (batch, n_heads * head_dim), on the layer's device.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> None:
        self.lm = lm
        self.n_positions = 1
        self.targets = torch.tensor([prompt.target for prompt in prompts], device=lm.device)
        self.head_outputs: dict[int, Tensor] = {}
        self._ids = torch.tensor([list(prompt.token_ids) for prompt in prompts], device=lm.device)  # (batch, tokens)
        self.n_tokens = self._ids.shape[1]
        self._cache: Any = None
        check_masks(lm, self.n_tokens, whole=False)
        if self.n_tokens > 1:
            self._cache = lm.model.base_model(input_ids=self._ids[:, :-1], use_cache=True).past_key_values
        self._prefix = [] if self._cache is None else list(self._cache.layers)
        self._calls: dict[int, list[BlockCall]] = {}
        self.residual = [self._calls_of(1)[0].hidden]
        with record_head_outputs(lm, range(lm.n_layers), None, self.head_outputs):
            for layer in range(lm.n_layers):
                self.residual.append(self.run_block(layer, self.residual[-1]))

    def run_block(self, layer: int, rows: Tensor) -> Tensor:
        """Run block `layer` on rows, (batch, n_rows, d_model), each in the place of the last token."""
        n_rows = rows.shape[1]
        call = self._calls_of(n_rows)[layer]
        if self._cache is not None:
            self._cache.layers[layer] = self._prefix_of(layer, n_rows)
        # (batch, n_rows, d_model) -> (batch * n_rows, 1, d_model), and back
        output = self.lm.blocks[layer](rows.flatten(0, 1)[:, None], *call.args, **call.kwargs)
        residual = residual_of(output, self.lm.spec.blocks, self.lm.spec.tuple_output)
        return residual.unflatten(0, (-1, n_rows))[:, :, 0]

    def _prefix_of(self, layer: int, n_rows: int) -> Any:
        """A layer's cache of the prefix, repeated for each row; a block may append to it: the original stays."""
        own = copy(self._prefix[layer])
        if n_rows > 1:
            own.batch_repeat_interleave(n_rows)
        return own

    def _calls_of(self, n_rows: int) -> list[BlockCall]:
        """The arguments of each block (masks, positions) for `n_rows` rows per prompt, recorded without running one."""
        if n_rows not in self._calls:
            if self._cache is not None:
                self._cache.layers[:] = [self._prefix_of(layer, n_rows) for layer in range(len(self._prefix))]
            ids = self._ids.repeat_interleave(n_rows, 0)
            with noted_calls(self.lm) as self._calls[n_rows]:
                self.lm.model.base_model(
                    input_ids=ids[:, -1:],
                    attention_mask=torch.ones_like(ids),
                    past_key_values=self._cache,
                    use_cache=self._cache is not None,
                )
        return self._calls[n_rows]
