"""Heads planted in tiny models whose effects a gradient does not tell: what screening has to catch by other means."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fv.models.language_model import LanguageModel


class Bent(nn.Module):
    """An output projection that reads a function of the head outputs."""

    def __init__(self, projection: nn.Module, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.projection = projection
        self.bend = bend

    @property
    def weight(self) -> Tensor:
        weight = self.projection.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, head_outputs: Tensor) -> Tensor:
        return self.projection(self.bend(head_outputs))


def plant(lm: LanguageModel, layer: int, bend: Callable[[Tensor], Tensor]) -> None:
    """Let a layer's projection read `bend` of its input, (batch, positions, n_heads * head_dim)."""
    parent, _, name = lm.spec.out_proj.rpartition(".")
    lm.out_projs[layer] = Bent(lm.out_projs[layer], bend)
    setattr(lm.blocks[layer].get_submodule(parent), name, lm.out_projs[layer])


def staircase(head_outputs: Tensor) -> Tensor:
    """Head outputs in steps: flat wherever a gradient is taken."""
    return (8 * head_outputs).round() / 8


def saturated(lm: LanguageModel, head: int, own: Tensor, value: Tensor) -> Callable[[Tensor], Tensor]:
    """One head that is flat at its own output and at `value`, both (head_dim,), and rises between the two."""
    columns, way = lm.head_slice(head), value - own

    def bend(head_outputs: Tensor) -> Tensor:
        here = head_outputs[..., columns]
        share = (((here - own) @ way) / (way @ way)).clamp(0, 1)[..., None]  # (batch, positions, 1)
        bent = own + share**2 * (3 - 2 * share) * way
        return torch.cat([head_outputs[..., : columns.start], bent, head_outputs[..., columns.stop :]], -1)

    return bend
