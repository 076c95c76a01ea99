"""Difference of means: the mean residual stream of few-shot prompts minus that of prompts without examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fv.vectors.maker import FitTrials, Maker, States, first_cell

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance
    from fv.vectors.options import Options


@dataclass
class MeanDifference(Maker):
    """mean(clean) − mean(zero-shot) of the residual stream after a layer, added there."""

    label: ClassVar[str] = "difference of means"
    source: ClassVar[str] = "Marks and Tegmark 2024"

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        return {"vectors": of.difference}  # (n_layers, d_model)

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.vectors.options import LayerVectors

        return LayerVectors(tensors["vectors"], first_cell(of), of.cells)
