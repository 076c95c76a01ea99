"""Learned vector: one vector, trained at one layer (Yang et al. 2025, arXiv 2509.24169)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from fv.vectors.learned_layers import LearnedAtLayers
from fv.vectors.maker import FitTrials

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class LearnedVector(LearnedAtLayers):
    """The vector v that minimises the mean of -log p(answer | h + v), with h the stream after a layer.

    v is θ times the root mean square of the stream there, and θ starts at 0. It is the upper bound of all vectors that
    are added to every prompt at one layer.
    """

    rate: Annotated[float, Gt(0)] = 0.1
    """Learning rate of Adam, for θ."""

    label: ClassVar[str] = "learned vector"
    source: ClassVar[str] = "Yang et al. 2025"

    def start(self, of: FitTrials, layer: int) -> Tensor:
        import torch

        return torch.zeros(of.lm.d_model)

    def directions(self, of: FitTrials, layer: int) -> Tensor:
        return of.rms[layer]
