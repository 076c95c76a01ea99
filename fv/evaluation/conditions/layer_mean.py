"""Means of the residual stream, injected in place of the function vector: their difference, and Hendel et al.'s task
vector."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import RelationContext
from fv.evaluation.provider import ConditionProvider
from fv.vectors.options import LayerVectors


@dataclass
class LayerMean(ConditionProvider):
    """Two baselines from a layer's mean residual stream, each at its own best layer.

    `layer_mean_added` adds the mean over clean prompts minus the mean over zero-shot prompts. `layer_mean_replaced`
    replaces the residual stream by the mean over clean prompts.
    """

    place: ClassVar[int] = 10
    needs_effects: ClassVar[bool] = True

    def of_relation(self, at: RelationContext) -> Iterator[Candidate]:
        first, layers = at.cells[0], sorted({cell.layer for cell in at.cells})
        added = LayerVectors(at.means.difference, first, at.choices)
        yield Candidate("layer_mean_added", options=added, control_of=("fv",))
        parts = [first._replace(layer=layer, alpha=share) for layer in layers for share in at.shares]
        replaced = LayerVectors(at.means.residual, first._replace(alpha=1.0), parts, replaces=True)
        yield Candidate("layer_mean_replaced", options=replaced, control_of=("fv",))
