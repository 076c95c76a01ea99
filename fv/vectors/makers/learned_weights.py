"""Learned weights: a sum of heads' contributions with trained weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from fv.vectors.learned_layers import LearnedAtLayers
from fv.vectors.maker import FitTrials

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class LearnedWeights(LearnedAtLayers):
    """Σ w_h · W_O (mean(clean) − mean(zero-shot)) over the heads up to a layer, added there, with trained weights.

    The weights start at 0 and minimise the mean of -log p(answer). It is the upper bound of all weights of heads whose
    contributions are summed at one layer.
    """

    rate: Annotated[float, Gt(0)] = 0.5
    """Learning rate of Adam, for the weights."""

    label: ClassVar[str] = "learned weights of heads"
    source: ClassVar[str] = "Todd et al. 2024, weighted by gradients"

    def start(self, of: FitTrials, layer: int) -> Tensor:
        import torch

        return torch.zeros((layer + 1) * of.lm.n_heads)

    def directions(self, of: FitTrials, layer: int) -> Tensor:
        import torch

        change = of.head_differences("zero_shot")
        # (n_heads, d_model) of each layer -> (n_heads of all layers, d_model)
        every = [of.lm.added_by(below, change[below]).cpu() for below in range(layer + 1)]
        return torch.cat(every).to(torch.float32)
