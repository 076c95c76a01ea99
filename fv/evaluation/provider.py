"""What provides conditions: the settings and the making of one kind of control, baseline or ablation."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from fv.config.group import Group
from fv.evaluation.candidate import Candidate
from fv.evaluation.context import RelationContext, VectorContext


@dataclass
class ConditionProvider(Group):
    """Provides one or several conditions; the fields are its settings, each with a default.

    A provider says in each `Candidate` what the condition is compared with. Its module is imported wherever settings
    are checked: what needs torch is imported in the methods.
    """

    enabled: bool = True
    """Whether its conditions are run."""

    place: ClassVar[int] = 100
    """Where its conditions stand among the others, in every file and pass; those of one place by name."""
    needs_effects: ClassVar[bool] = False
    """Whether it takes means of activations, rankings of heads or other relations' vectors to make."""
    made_of_others: ClassVar[bool] = False
    """Whether other relations have a part in it: what it gives is computed again where a run grows by relations."""
    away_too: ClassVar[bool] = False
    """Whether it says anything of a vector that is of another relation than the one it is injected into."""

    def of_relation(self, at: RelationContext) -> Iterable[Candidate]:
        """The conditions that belong to a relation and to no vector."""
        return ()

    def of_vector(self, at: VectorContext) -> Iterable[Candidate]:
        """The conditions that belong to a vector on a relation. What a condition takes may be missing (the heads of a
        vector from a file, other relations); then there is none."""
        return ()
