"""Random vectors in the vector's place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fv.config.checks import check_at_least
from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider


@dataclass
class RandomVectors(ConditionProvider):
    """Gaussian directions of the vector's norm: what any vector does."""

    draws: int = 20
    """How many are drawn."""

    place: ClassVar[int] = 20
    away_too: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_at_least("random_vectors.draws", self.draws, 1)

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.controls import random_vectors

        for draw, values in enumerate(random_vectors(at.vector, self.draws, at.seed)):
            yield at.control("random_vector", values, draw, all_draws=False)
