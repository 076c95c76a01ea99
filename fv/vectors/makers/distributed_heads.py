"""Distributed heads: each head's own contribution at its own layer, instead of their sum at one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, ClassVar

from annotated_types import Ge

from fv.vectors.maker import FitTrials, Maker, States

if TYPE_CHECKING:
    from torch import Tensor

    from fv.progress import Advance
    from fv.vectors.options import Options


class Reference(StrEnum):
    """Prompts whose mean is subtracted from the clean prompts' mean."""

    zero_shot = "zero_shot"
    """Prompts without examples."""
    corrupted = "corrupted"
    """Prompts with wrong examples."""
    none = "none"
    """Nothing is subtracted."""


@dataclass
class DistributedHeads(Maker):
    """mean(clean) − mean(zero-shot) of each of the best heads' outputs, added to its output in one pass."""

    k: Annotated[int, Ge(1)] | None = None
    """Number of heads; null for the run's."""
    reference: Reference = Reference.zero_shot
    """Prompts whose mean is subtracted: `zero_shot`, `corrupted` or `none`."""
    alphas: list[float] = field(default_factory=lambda: [0.5, 1.0, 1.5, 2.0])
    """Strengths that dev trials choose among."""

    label: ClassVar[str] = "distributed heads"
    source: ClassVar[str] = "Todd et al. 2024, each head at its own layer"
    of_others: ClassVar[bool] = False

    def compute(self, of: FitTrials, states: Mapping[str, States], advance: Advance) -> dict[str, Tensor]:
        import torch

        heads = sorted(of.heads(self.k).heads)
        added = of.head_differences(None if self.reference is Reference.none else self.reference.value)
        layers, numbers = zip(*heads, strict=True)
        return {"heads": torch.tensor(heads), "added": added[[*layers], [*numbers]]}  # (k, 2), (k, head_dim)

    def options(self, of: FitTrials, tensors: Mapping[str, Tensor]) -> Options:
        from fv.interventions.edits import AddHeads
        from fv.vectors.options import Scaled

        heads = tuple((layer, head) for layer, head in tensors["heads"].tolist())
        return Scaled(AddHeads(heads, tensors["added"]), among=tuple(self.alphas))
