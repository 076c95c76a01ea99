"""Prompts of wrong examples, with the vector and without."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import RelationContext, VectorContext
from fv.evaluation.provider import ConditionProvider


@dataclass
class FewShotCorrupted(ConditionProvider):
    """The corrupted prompt, and the vector added to it at the best cell there: whether it mends wrong examples."""

    place: ClassVar[int] = 90

    def of_relation(self, at: RelationContext) -> Iterator[Candidate]:
        yield Candidate("few_shot_corrupted", "corrupted")

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        minus = ("few_shot_corrupted", "few_shot")
        yield at.injected("few_shot_corrupted_fv", "corrupted", minus)
