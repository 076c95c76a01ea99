"""Soft gates: every head's output, moved towards its mean by a trained share (SITE, arXiv 2507.20906)."""

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
class SoftGates(LearnedMaker):
    """(1 − g_h) · own output + g_h · mean(clean), for every head h in one pass, with trained gates g.

    g_h is the sigmoid of a number that starts at 0, so every head starts half way, as in the paper. It is the upper
    bound of all choices of heads that are set to their means, in whole or in part.
    """

    rate: Annotated[float, Gt(0)] = 0.2
    """Learning rate of Adam, for the numbers whose sigmoids are the gates."""

    label: ClassVar[str] = "soft gates on heads"
    source: ClassVar[str] = "Park et al. 2025"

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        start = {"gates": torch.zeros(of.lm.n_layers * of.lm.n_heads)}
        found = self.trained(of, start, lambda parameters: _gated(of, parameters["gates"].sigmoid()))
        return {"gates": found.parameters["gates"].sigmoid(), TRAINING: reported([found])}

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.vectors.options import Scaled

        return Scaled(_gated(of, tensors["gates"]), among=(1.0,))

    def n_fitted(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> int:
        return tensors["gates"].numel()


def _gated(of: FitTrials, gates: Tensor) -> Edit:
    """All heads moved towards their means by gates, (n_layers * n_heads,)."""
    from fv.interventions.edits import SetHeads

    heads = tuple((layer, head) for layer in range(of.lm.n_layers) for head in range(of.lm.n_heads))
    return SetHeads(heads, of.means.clean, gates)
