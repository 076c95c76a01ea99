"""The batch of prompts that is run once, unedited; rows of last tokens then run on it (`shared_prefix`).

`PromptBatch` is for rows of the last token alone, `Continuation` for rows with tokens after it; `fv.interventions.rows`
runs rows on both.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fv.errors import SpecError
from fv.interventions.hooks import noted_calls, record_head_outputs, residual_of
from fv.interventions.masks import check_masks
from fv.interventions.prefix_attention import PrefixCache, PromptDoneError
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class PromptBatch:
    """Prompts of any lengths, right-padded; to be used in `shared_prefix_mode` only.

    Attributes:
        n_positions: tokens of a row.
        targets: (batch,) target token ids.
        residual: the last token's residual stream before each block, and then after the last block; each
            (batch, 1, d_model), on the device of the block that it leaves.
        head_outputs: per layer the last token's head outputs, (batch, n_heads * head_dim), on the layer's device.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> None:
        self.lm = lm
        self.n_positions = 1
        self.targets = torch.tensor([p.target for p in prompts], device=lm.device)
        lengths = torch.tensor([len(p.token_ids) for p in prompts], device=lm.device)
        longest = int(lengths.max())
        check_masks(lm, longest, whole=True)
        # The padding token is any valid id: in a causal model, no token sees later ones.
        padded = [list(p.token_ids) + [0] * (longest - len(p.token_ids)) for p in prompts]
        ids = torch.tensor(padded, device=lm.device)  # (batch, tokens)
        self._each = torch.arange(len(prompts), device=lm.device)
        self._last = lengths - 1  # (batch,) position of each last token
        self._cache = PrefixCache(lengths=lengths - 1, stop_after=lm.n_layers - 1)
        self.residual: list[Tensor] = []
        self.head_outputs: dict[int, Tensor] = {}
        self._last_ids = ids[self._each, self._last, None]  # (batch, 1)
        self._calls = _Calls(lm, self._last_ids, self._last[:, None], self._cache)
        self._run_prompts(ids, torch.arange(longest, device=lm.device).expand_as(ids))
        self._run_last_block()

    def run_block(self, layer: int, rows: Tensor) -> Tensor:
        """Run block `layer` on rows, (batch, n_rows, d_model), each in the place of the last token."""
        # One position for all rows, which broadcasts.
        return self._calls.run(layer, rows, 1)

    def continued(self, after: Tensor) -> "Continuation":
        """Put tokens after the prompts, (batch, n_after)."""
        ids = torch.cat([self._last_ids, after.to(self._last_ids.device)], 1)
        check_masks(self.lm, int(self._last.max()) + ids.shape[1], whole=True)
        positions = self._last[:, None] + torch.arange(ids.shape[1], device=ids.device)
        return Continuation(self.lm, _Calls(self.lm, ids, positions, self._cache.continued(ids.shape[1])))

    @property
    def n_bytes(self) -> int:
        """Memory of its tensors, in bytes."""
        kept = [part for both in self._cache.kept.values() for part in both]
        return sum(part.nbytes for part in (*kept, *self.residual, *self.head_outputs.values()))

    def _run_prompts(self, ids: Tensor, positions: Tensor) -> None:
        """Run all tokens up to the last layer's keys and values; only the last token is needed above."""
        path = self.lm.spec.blocks

        def keep_residual(_module: nn.Module, args: tuple[Any, ...]) -> None:
            residual = residual_of(args[0] if args else None, path, False)  # (batch, tokens, d_model)
            each, last = self._each.to(residual.device), self._last.to(residual.device)
            self.residual.append(residual[each, last, None])

        handles = [block.register_forward_pre_hook(keep_residual) for block in self.lm.blocks]
        try:
            with record_head_outputs(self.lm, range(self.lm.n_layers - 1), self._last, self.head_outputs):
                try:
                    _run_base_model(self.lm, ids, positions, self._cache)
                except PromptDoneError:
                    return
            raise SpecError(f"The spec {self.lm.spec.name} never reached attention layer {self._cache.stop_after}.")
        finally:
            for handle in handles:
                handle.remove()
            self._cache.stop_after = None

    def _run_last_block(self) -> None:
        last = self.lm.n_layers - 1
        with record_head_outputs(self.lm, [last], None, self.head_outputs):
            self.residual.append(self.run_block(last, self.residual[last]))


class Continuation:
    """Prompts with tokens after them, for rows of both; to be used in `shared_prefix_mode` only.

    Attributes:
        n_positions: tokens of a row, including the last prompt token.
        residual: as in `PromptBatch`, but each (batch, n_positions, d_model).
    """

    def __init__(self, lm: LanguageModel, calls: "_Calls") -> None:
        self.lm = lm
        self.n_positions = calls.start.shape[1]
        self._calls = calls
        self.residual = [calls.start]
        for layer in range(lm.n_layers):
            self.residual.append(self.run_block(layer, self.residual[layer]))

    def run_block(self, layer: int, rows: Tensor) -> Tensor:
        """Run block `layer` on rows (batch, n_rows * n_positions, d_model), a row's tokens next to one another."""
        return self._calls.run(layer, rows, rows.shape[1] // self.n_positions)


class _Calls:
    """The arguments of each block at some tokens (positions, rotations), recorded without running a block.

    Attributes:
        start: the input of the first block, (batch, n_positions, d_model).
    """

    def __init__(self, lm: LanguageModel, ids: Tensor, positions: Tensor, cache: PrefixCache) -> None:
        self._lm = lm
        self._n_positions = ids.shape[1]
        with noted_calls(lm) as self._noted:
            _run_base_model(lm, ids, positions, cache)
        self.start = self._noted[0].hidden

    def run(self, layer: int, rows: Tensor, times: int) -> Tensor:
        """Run a block on rows, (batch, rows, d_model), with its arguments for `times` rows next to one another."""
        call = self._noted[layer]
        args = tuple(self._repeated(value, times) for value in call.args)
        kwargs = {name: self._repeated(value, times) for name, value in call.kwargs.items()}
        return residual_of(self._lm.blocks[layer](rows, *args, **kwargs), self._lm.spec.blocks, False)

    def _repeated(self, value: Any, times: int) -> Any:
        """An argument with a value per position, (batch, n_positions, …), repeated for several rows."""
        if times == 1:
            return value
        if isinstance(value, tuple):
            return tuple(self._repeated(part, times) for part in value)
        if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[1] != self._n_positions:
            return value
        return value.repeat(1, times, *[1] * (value.ndim - 2))  # (batch, times * n_positions, …)


def _run_base_model(lm: LanguageModel, ids: Tensor, positions: Tensor, cache: PrefixCache) -> None:
    lm.model.base_model(input_ids=ids, position_ids=positions, use_cache=False, fv_prefix=cache)
