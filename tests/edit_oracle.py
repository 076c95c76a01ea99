"""Edits by plain PyTorch hooks, on one unpadded sequence without a cache: an oracle for edits of every kind."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn

from fv.interventions.edit import Edit
from fv.interventions.edits import (
    AddHeads,
    AddKeepingNorm,
    AddLinear,
    AddToAttention,
    AddToMLP,
    AddVector,
    Edits,
    Mix,
    ReplaceResidual,
    SetHeads,
)
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
    if isinstance(edit, Edits):
        return [handle for each in edit.edits for handle in _hooks(lm, each, where)]
    if isinstance(edit, SetHeads | AddHeads):
        return [
            lm.out_projs[layer].register_forward_pre_hook(_change_head(lm, edit, where, number, layer, head))
            for number, (layer, head) in enumerate(edit.heads)
        ]
    part: str = edit.part if isinstance(edit, Mix | AddToAttention | AddToMLP) else "residual"
    assert not isinstance(edit, Edits | SetHeads | AddHeads) and isinstance(edit, KINDS)
    block: Any = lm.blocks[edit.layer]
    module = {"residual": "", "attention": lm.spec.out_proj, "mlp": lm.spec.mlp}[part]
    return [
        (attrgetter(module)(block) if module else block).register_forward_hook(
            _change_output(lambda hidden: _changed(edit, hidden), where)
        )
    ]


KINDS = (AddVector, AddToAttention, AddToMLP, ReplaceResidual, Mix, AddKeepingNorm, AddLinear)


def _changed(edit: Edit, x: Tensor) -> Tensor:
    """One token's hidden state, (d_model,), as the definition of the edit has it."""
    match edit:
        case ReplaceResidual():
            return (1 - edit.share) * x + edit.share * edit.vector
        case AddVector() | AddToAttention() | AddToMLP():
            return x + edit.vector
        case Mix():
            return edit.scale * x + (0 if edit.vector is None else edit.vector)
        case AddKeepingNorm():
            return (x + edit.vector) / (x + edit.vector).norm() * x.norm()
        case AddLinear():
            weight = edit.weight[0] @ edit.weight[1] if isinstance(edit.weight, tuple) else edit.weight
            return x + weight @ x + (0 if edit.vector is None else edit.vector)
    raise AssertionError(edit)


def _change_head(
    lm: LanguageModel, edit: SetHeads | AddHeads, where: list[int], number: int, layer: int, head: int
) -> Any:
    values = torch.as_tensor(edit.values, dtype=torch.float32)
    value = {0: lambda: values, 2: lambda: values[number], 3: lambda: values[layer, head]}[values.ndim]()

    def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        heads = args[0].clone()
        own = slice(head * lm.head_dim, (head + 1) * lm.head_dim)
        for at in where:
            if isinstance(edit, AddHeads):
                heads[0, at, own] += value
            else:
                share = torch.as_tensor(edit.share)
                share = share[number] if share.ndim else share
                heads[0, at, own] = (1 - share) * heads[0, at, own] + share * value
        return (heads, *args[1:])

    return hook


def _change_output(change: Callable[[Tensor], Tensor], where: list[int]) -> Any:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        hidden = (output[0] if isinstance(output, tuple) else output).clone()
        for at in where:
            hidden[0, at] = change(hidden[0, at].clone())
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    return hook
