"""A batch of prompts run once, unedited, ready for rows on top of their last token (`shared_prefix`)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fv.errors import ModelError, SpecError
from fv.interventions.hooks import record_head_outputs, residual_of
from fv.interventions.prefix_attention import PrefixCache, PromptDoneError
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class PromptBatch:
    """Prompts of any lengths, right-padded; lives in `shared_prefix_mode`.

    Attributes:
        targets: (batch,) target token ids.
        residual: per layer the last token's residual stream entering it, and last the one leaving the last block;
            each (batch, 1, d_model), on the device of the block that it leaves.
        head_outputs: per layer the last token's head outputs, (batch, n_heads * head_dim), on the layer's device.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> None:
        self.lm = lm
        self.targets = torch.tensor([p.target for p in prompts], device=lm.device)
        lengths = torch.tensor([len(p.token_ids) for p in prompts], device=lm.device)
        longest = int(lengths.max())
        # The padding token is any valid id: in a causal model nothing looks at what comes after it.
        padded = [list(p.token_ids) + [0] * (longest - len(p.token_ids)) for p in prompts]
        ids = torch.tensor(padded, device=lm.device)  # (batch, tokens)
        self._each = torch.arange(len(prompts), device=lm.device)
        self._last = lengths - 1  # (batch,) position of each last token
        self._cache = PrefixCache(lengths=lengths - 1, stop_after=lm.n_layers - 1)
        self.residual: list[Tensor] = []
        self.head_outputs: dict[int, Tensor] = {}
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._record_calls(ids[self._each, self._last, None], self._last[:, None])
        self._run_prompts(ids, torch.arange(longest, device=lm.device).expand_as(ids))
        self._run_last_block()

    def run_block(self, layer: int, rows: Tensor) -> Tensor:
        """Run block `layer` on rows (batch, n_rows, d_model) as the last token would run through it."""
        args, kwargs = self._calls[layer]
        return residual_of(self.lm.blocks[layer](rows, *args, **kwargs), self.lm.spec.blocks, False)

    def _record_calls(self, ids: Tensor, positions: Tensor) -> None:
        """Learn what each block is called with at the last tokens (positions, rotations), without running any."""
        with ExitStack() as stack:
            for block in self.lm.blocks:
                stack.enter_context(_recorded_call(block, self._calls))
            self._run_base_model(ids, positions)
        if len(self._calls) != self.lm.n_layers:
            raise ModelError(f"{self.lm.spec.blocks} ran {len(self._calls)} blocks, where {self.lm.n_layers} are due.")

    def _run_prompts(self, ids: Tensor, positions: Tensor) -> None:
        """Run all tokens up to the last layer's keys and values; what is above is due at the last token only."""
        path = self.lm.spec.blocks

        def keep_residual(_module: nn.Module, args: tuple[Any, ...]) -> None:
            residual = residual_of(args[0] if args else None, path, False)  # (batch, tokens, d_model)
            each, last = self._each.to(residual.device), self._last.to(residual.device)
            self.residual.append(residual[each, last, None])

        handles = [block.register_forward_pre_hook(keep_residual) for block in self.lm.blocks]
        try:
            with record_head_outputs(self.lm, range(self.lm.n_layers - 1), self._last, self.head_outputs):
                try:
                    self._run_base_model(ids, positions)
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

    def _run_base_model(self, ids: Tensor, positions: Tensor) -> None:
        self.lm.model.base_model(input_ids=ids, position_ids=positions, use_cache=False, fv_prefix=self._cache)


@contextmanager
def _recorded_call(block: nn.Module, calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Iterator[None]:
    """Have a block note the arguments it is called with, behind its input, and return its input."""

    def note(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        calls.append((args, kwargs))
        return hidden_states

    # accelerate keeps a forward of its own on the block, which moves what it is called with (a device map).
    before = vars(block).get("forward")
    block.forward = note
    try:
        yield
    finally:
        if before is None:
            del block.forward
        else:
            block.forward = before
