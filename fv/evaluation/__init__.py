"""Evaluation of injected vectors: grid, choice on dev trials, conditions on test trials, transfer, cost, tables.

This module exports the names for adding conditions, which need no torch. Import all others from their own modules.
"""

from fv.evaluation.candidate import Candidate
from fv.evaluation.conditions import condition_providers, only, providers_of
from fv.evaluation.context import RelationContext, VectorContext
from fv.evaluation.provider import ConditionProvider

__all__ = [
    "Candidate",
    "ConditionProvider",
    "RelationContext",
    "VectorContext",
    "condition_providers",
    "only",
    "providers_of",
]
