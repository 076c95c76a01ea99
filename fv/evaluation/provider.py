"""Provider of conditions: the base class of every kind of control, baseline and ablation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from fv.config.group import Group
from fv.evaluation.candidate import Candidate
from fv.evaluation.context import RelationContext, VectorContext


@dataclass
class ConditionProvider(Group):
    """Base class of providers, which make one or several conditions. Fields are settings, each with a default.

    Each `Candidate` that a provider yields names the conditions that it is compared with. Settings are checked without
    torch, so a provider's module imports torch inside methods only.
    """

    enabled: bool = True
    """Run the provider's conditions."""

    place: ClassVar[int] = 100
    """Position of its conditions among those of all providers, in files and in runs; ties are sorted by name."""
    needs_effects: ClassVar[bool] = False
    """True if it needs measured effects: means of activations, rankings of heads, or other relations' vectors."""
    made_of_others: ClassVar[bool] = False
    """True if its conditions depend on other relations, so that they are computed again when relations are added."""
    away_too: ClassVar[bool] = False
    """True if it also makes conditions for a vector that is injected into another relation than its own."""

    def of_relation(self, at: RelationContext) -> Iterable[Candidate]:
        """Yield the conditions that belong to a relation and to no vector."""
        return ()

    def of_vector(self, at: VectorContext) -> Iterable[Candidate]:
        """Yield the conditions that belong to a vector on a relation.

        Yields nothing if an ingredient is missing, such as the heads of a vector from a file, or other relations.
        """
        return ()
