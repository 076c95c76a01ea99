"""What injected vectors do: grid, choice on dev trials, conditions on test trials, transfer, cost, tables.

Here are the names that need no torch, by which conditions are added; the rest are imported from their modules.
"""

from fv.evaluation.candidate import Candidate, Injected, LayerVectors
from fv.evaluation.conditions import condition_providers, only, providers_of
from fv.evaluation.context import RelationContext, VectorContext
from fv.evaluation.provider import ConditionProvider

__all__ = [
    "Candidate",
    "ConditionProvider",
    "Injected",
    "LayerVectors",
    "RelationContext",
    "VectorContext",
    "condition_providers",
    "only",
    "providers_of",
]
