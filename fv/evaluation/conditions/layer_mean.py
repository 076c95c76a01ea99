"""Means of the residual stream, injected in place of the function vector: their difference, and Hendel et al.'s task
vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import RelationContext
from fv.evaluation.provider import ConditionProvider, Words
from fv.vectors.options import LayerVectors


@dataclass
class LayerMean(ConditionProvider):
    """Two baselines from a layer's mean residual stream, each at its own best layer.

    `layer_mean_added` adds the mean over clean prompts minus the mean over zero-shot prompts. `layer_mean_replaced`
    replaces the residual stream by the mean over clean prompts.
    """

    words: ClassVar[Mapping[str, Words]] = {
        "layer_mean_replaced": Words(
            "layer mean replaced",
            "Replacing the residual stream by its layer mean",
            "replacing the residual stream by its layer mean",
            column="mean replaced",
            column_at=40,
            leads_at=30,
            in_cost_figure=True,
            of_vector=False,
        ),
        "layer_mean_added": Words(
            "layer mean added",
            "Adding the difference of means",
            "the difference of means of its best layer",
            column="difference of means",
            column_at=50,
            leads_at=20,
            in_cost_figure=True,
            of_vector=False,
        ),
    }
    place: ClassVar[int] = 10
    needs_effects: ClassVar[bool] = True

    def of_relation(self, at: RelationContext) -> Iterator[Candidate]:
        first, layers = at.cells[0], sorted({cell.layer for cell in at.cells})
        added = LayerVectors(at.means.difference, first, at.choices)
        yield Candidate("layer_mean_added", options=added, control_of=("fv",))
        parts = [first._replace(layer=layer, alpha=share) for layer in layers for share in at.shares]
        replaced = LayerVectors(at.means.residual, first._replace(alpha=1.0), parts, replaces=True)
        yield Candidate("layer_mean_replaced", options=replaced, control_of=("fv",))
