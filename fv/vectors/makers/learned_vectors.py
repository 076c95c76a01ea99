"""Learned vectors: one vector at every layer, trained together (Yang et al. 2025, arXiv 2509.24169)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Gt

from fv.vectors.learned import TRAINING, LearnedMaker, reported
from fv.vectors.maker import FitTrials, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.interventions.edit import Edit
    from fv.progress import Advance
    from fv.vectors.options import Options


@dataclass
class LearnedVectors(LearnedMaker):
    """The vectors v_ℓ that minimise the mean of -log p(answer), each added after its layer ℓ, in one pass.

    v_ℓ is θ_ℓ times the root mean square of the stream there, and θ starts at 0. It is the upper bound of all vectors
    that are added to every prompt at all layers.
    """

    rate: Annotated[float, Gt(0)] = 0.005
    """Learning rate of Adam, for θ."""

    label: ClassVar[str] = "learned vectors at all layers"
    source: ClassVar[str] = "Yang et al. 2025"

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        unit = of.rms[:, None]  # (n_layers, 1)
        start = {"vectors": torch.zeros(of.lm.n_layers, of.lm.d_model)}
        found = self.trained(of, start, lambda parameters: _added(unit * parameters["vectors"]))
        return {"vectors": unit * found.parameters["vectors"], TRAINING: reported([found])}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.vectors.options import Scaled

        return Scaled(_added(tensors["vectors"]), among=(1.0,))

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        return tensors["vectors"].numel()


def _added(vectors: Tensor) -> Edit:
    """The vectors, (n_layers, d_model), each added after its layer."""
    from fv.interventions.edits import AddVector, Edits

    return Edits(tuple(AddVector(layer, vector) for layer, vector in enumerate(vectors.unbind())))
