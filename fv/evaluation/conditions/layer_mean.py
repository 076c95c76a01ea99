"""A layer's mean residual stream in the vector's place: the task vector, after Hendel et al. (2023)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate, LayerVectors
from fv.evaluation.context import RelationContext
from fv.evaluation.provider import ConditionProvider


@dataclass
class LayerMean(ConditionProvider):
    """A layer's mean residual stream over the relation's clean prompts, added to that of the zero-shot prompt, and put
    in its place, each at its own best layer."""

    place: ClassVar[int] = 10
    needs_effects: ClassVar[bool] = True

    def of_relation(self, at: RelationContext) -> Iterator[Candidate]:
        first, residual = at.cells[0], at.means.residual
        added = LayerVectors(residual, first)
        replaced = LayerVectors(residual, first._replace(alpha=1.0), replaces=True)
        yield Candidate("layer_mean_added", edit=added, control_of=("fv",))
        yield Candidate("layer_mean_replaced", edit=replaced, control_of=("fv",))
