"""Random vectors in the vector's place."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from annotated_types import Ge

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider


class RandomForm(StrEnum):
    """What a random vector is."""

    head_outputs = "head_outputs"
    """A sum of random outputs of the vector's heads, each of its mean output's norm, through their projections."""
    isotropic = "isotropic"
    """A Gaussian direction of the vector's norm, as all are of a vector whose heads are not known."""


@dataclass
class RandomVector(ConditionProvider):
    """Random vectors of the vector's class: what any vector does."""

    draws: Annotated[int, Ge(1)] = 20
    """How many are drawn."""
    form: RandomForm = RandomForm.head_outputs
    """`head_outputs`: what random outputs of the vector's heads add to the stream; `isotropic`: Gaussian directions."""

    place: ClassVar[int] = 20
    away_too: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.controls import isotropic_vectors, vectors_of_random_outputs

        if at.heads is None or self.form is RandomForm.isotropic:
            found = isotropic_vectors(at.vector, self.draws, at.seed)
        else:
            found = vectors_of_random_outputs(at.lm, at.vector, at.heads, self.draws, at.seed)
        for draw, values in enumerate(found):
            yield at.control("random_vector", values, draw, all_draws=False)
