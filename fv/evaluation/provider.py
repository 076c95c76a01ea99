"""Provider of conditions: the base class of every kind of control, baseline and ablation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fv.config.group import Group
from fv.evaluation.candidate import Candidate
from fv.evaluation.context import RelationContext, VectorContext


@dataclass(frozen=True)
class Words:
    """Words of a condition, and its roles in tables and figures.

    Attributes:
        label: its name in figures.
        subject: subject of the sentence that says where it does better than the vector, such as `The mean of the random
            vectors`; empty for no such sentence.
        thing: what the page's findings compare the vector with, such as `the difference of means of its best layer`;
            empty for no such sentence.
        column: heading of its column in the closing table of baselines.
        column_at: place of that column among the others; None for none.
        leads_at: its place among the contrasts that the results table and the forest plot show; None for none.
        in_cost_figure: True if the figure of effect against cost shows it.
        of_vector: True if it belongs to a vector, False if it belongs to a relation only.

    Example:
        >>> Words("reversed", "The reversed vector", leads_at=50).label
        'reversed'
    """

    label: str
    subject: str = ""
    thing: str = ""
    column: str = ""
    column_at: int | None = None
    leads_at: int | None = None
    in_cost_figure: bool = False
    of_vector: bool = True


@dataclass
class ConditionProvider(Group):
    """Base class of providers, which make one or several conditions. Fields are settings, each with a default.

    Each `Candidate` that a provider yields names the conditions that it is compared with. Settings are checked without
    torch, so a provider's module imports torch inside methods only.
    """

    enabled: bool = True
    """Run the provider's conditions."""

    words: ClassVar[Mapping[str, Words]] = {}
    """{condition that it yields: its words and roles}. A condition without words is shown by its name."""
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
