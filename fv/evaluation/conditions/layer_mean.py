"""A layer's mean residual stream in the vector's place: differences of means, and the task vector of Hendel et al."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate, LayerVectors
from fv.evaluation.context import RelationContext
from fv.evaluation.provider import ConditionProvider


@dataclass
class LayerMean(ConditionProvider):
    """A layer's mean residual stream over clean prompts minus that over zero-shot prompts, added; and that over clean
    prompts put in the zero-shot prompt's place; each at its own best layer."""

    place: ClassVar[int] = 10
    needs_effects: ClassVar[bool] = True

    def of_relation(self, at: RelationContext) -> Iterator[Candidate]:
        first = at.cells[0]
        # Runs of older versions have no means of zero-shot prompts.
        if (difference := at.means.difference) is not None:
            yield Candidate("layer_mean_added", edit=LayerVectors(difference, first), control_of=("fv",))
        replaced = LayerVectors(at.means.residual, first._replace(alpha=1.0), replaces=True)
        yield Candidate("layer_mean_replaced", edit=replaced, control_of=("fv",))
