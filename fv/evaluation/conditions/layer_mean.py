"""Means of the residual stream, injected in place of the function vector: their difference, and Hendel et al.'s task
vector."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate, LayerVectors
from fv.evaluation.context import RelationContext
from fv.evaluation.provider import ConditionProvider


@dataclass
class LayerMean(ConditionProvider):
    """Two baselines from a layer's mean residual stream, each at its own best layer.

    `layer_mean_added` adds the mean over clean prompts minus the mean over zero-shot prompts. `layer_mean_replaced`
    replaces the residual stream by the mean over clean prompts.
    """

    place: ClassVar[int] = 10
    needs_effects: ClassVar[bool] = True

    def of_relation(self, at: RelationContext) -> Iterator[Candidate]:
        first = at.cells[0]
        yield Candidate("layer_mean_added", edit=LayerVectors(at.means.difference, first), control_of=("fv",))
        replaced = LayerVectors(at.means.residual, first._replace(alpha=1.0), replaces=True)
        yield Candidate("layer_mean_replaced", edit=replaced, control_of=("fv",))
