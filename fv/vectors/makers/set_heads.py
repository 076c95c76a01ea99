"""Set heads: the best heads' outputs set to their means, in prompts without examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fv.vectors.maker import FitTrials, Maker, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance
    from fv.vectors.options import Options


@dataclass
class SetToMeans(Maker):
    """(1 − share) · own output + share · mean(clean), for each of the best heads, in one pass."""

    k: Annotated[int, Ge(1)] | None = None
    """Number of heads; null for the run's."""

    label: ClassVar[str] = "heads set to means"
    source: ClassVar[str] = "Todd et al. 2024, patched in prompts without examples"

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        heads = sorted(of.heads(self.k).heads)
        layers, numbers = zip(*heads, strict=True)
        return {"heads": torch.tensor(heads), "means": of.means.clean[[*layers], [*numbers]]}  # (k, 2), (k, head_dim)

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.edits import SetHeads
        from fv.vectors.options import Scaled

        heads = tuple((layer, head) for layer, head in tensors["heads"].tolist())
        return Scaled(SetHeads(heads, tensors["means"]), among=tuple(of.shares))
