"""Weighted heads: a sum of heads' contributions with weights by least squares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from fv.vectors.maker import FitTrials, Maker, States, first_cell

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance
    from fv.vectors.options import Options


@dataclass
class WeightedHeads(Maker):
    """Σ w_h · W_O (mean(clean) − mean(zero-shot)) over the heads up to a layer, added there.

    The weights minimise |d − Σ w_h a_h|² + ridge · mean(|a_h|²) · Σ (w_h − 1)². Here d is the difference of means of
    the residual stream after the layer, and a_h is a head's contribution. A head that says nothing about d keeps
    weight 1.
    """

    ridge: Annotated[float, Gt(0)] = 0.1
    """Strength of the pull towards weight 1, relative to the mean squared norm of the contributions."""

    label: ClassVar[str] = "heads by least squares"
    source: ClassVar[str] = "Todd et al. 2024, weighted"

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        lm, change = of.lm, of.head_differences("zero_shot")
        # (n_layers * n_heads, d_model)
        every = torch.cat([lm.added_by(layer, change[layer]).cpu().double() for layer in range(lm.n_layers)])
        weights = torch.zeros(lm.n_layers, lm.n_layers * lm.n_heads, dtype=torch.float64)
        vectors = torch.zeros(lm.n_layers, lm.d_model, dtype=torch.float64)
        for layer, due in enumerate(of.difference.double()):
            here = every[: (layer + 1) * lm.n_heads]
            gram = here @ here.T  # (n, n)
            pull = (self.ridge * gram.diagonal().mean()).clamp_min(torch.finfo(gram.dtype).tiny)
            found = torch.linalg.solve(gram + pull * torch.eye(len(here), dtype=gram.dtype), here @ due + pull)
            weights[layer, : len(here)], vectors[layer] = found, found @ here
        dtype = of.means.clean.dtype
        return {"weights": weights.to(dtype), "vectors": vectors.to(dtype)}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.vectors.options import LayerVectors

        return LayerVectors(tensors["vectors"], first_cell(of), of.cells)

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        return tensors["weights"][-1].numel()
