"""Differences of means at every layer at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from fv.vectors.maker import FitTrials, Maker, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance
    from fv.vectors.options import Options


@dataclass
class AllMeanDifferences(Maker):
    """mean(clean) − mean(zero-shot) of the residual stream, added after every layer in one pass.

    A layer's difference holds those of the layers before it, so at strength 1 the stream moves too far.
    """

    alphas: list[float] = field(default_factory=lambda: [0.03125, 0.0625, 0.125, 0.25, 0.5, 1.0])
    """Strengths that dev trials choose among."""

    label: ClassVar[str] = "differences at all layers"
    source: ClassVar[str] = "Zou et al. 2023"

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        return {"vectors": of.difference}  # (n_layers, d_model)

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.edits import AddVector, Edits
        from fv.vectors.options import Scaled

        vectors = tensors["vectors"]
        every = Edits(tuple(AddVector(layer, vectors[layer]) for layer in range(of.lm.n_layers)))
        return Scaled(every, among=tuple(self.alphas))
