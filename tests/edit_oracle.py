"""Edits by plain PyTorch hooks, on one unpadded sequence without a cache: an oracle for edits of every kind."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from fv.interventions.edits import AddVector, Edit, ReplaceResidual, SetHeads
from fv.models.language_model import LanguageModel


def edited_logits(lm: LanguageModel, token_ids: Sequence[int], edits: Sequence[Edit], where: Sequence[int]) -> Tensor:
    """Logits, (tokens, vocabulary), of a sequence whose positions `where` are edited."""
    with ExitStack() as stack:
        for edit in edits:
            for handle in _hooks(lm, edit, list(where)):
                stack.callback(handle.remove)
        with torch.no_grad():
            return lm.model(torch.tensor([list(token_ids)]), use_cache=False).logits[0]


def positions_meant(positions: str, n_prompt: int, n_tokens: int) -> list[int]:
    """Which tokens of prompt and continuation `positions` means."""
    everything = list(range(n_tokens))
    return {"all": everything, "last_prompt": [n_prompt - 1], "generated": everything[n_prompt:]}[positions]


def _hooks(lm: LanguageModel, edit: Edit, where: list[int]) -> list[Any]:
    if isinstance(edit, SetHeads):
        return [
            lm.out_projs[layer].register_forward_pre_hook(_set_head(lm, edit, where, layer, head))
            for layer, head in edit.heads
        ]
    return [lm.blocks[edit.layer].register_forward_hook(_change_residual(edit, where))]


def _set_head(lm: LanguageModel, edit: SetHeads, where: list[int], layer: int, head: int) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        heads = args[0].clone()
        heads[0, where, head * lm.head_dim : (head + 1) * lm.head_dim] = torch.as_tensor(edit.values)[layer, head]
        return (heads, *args[1:])

    return hook


def _change_residual(edit: AddVector | ReplaceResidual, where: list[int]) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        residual = (output[0] if isinstance(output, tuple) else output).clone()
        for at in where:
            if isinstance(edit, AddVector):
                residual[0, at] += edit.vector
            else:
                residual[0, at] = (1 - edit.share) * residual[0, at] + edit.share * edit.vector
        return (residual, *output[1:]) if isinstance(output, tuple) else residual

    return hook
