"""Random vectors, injected in place of the function vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, ClassVar

from annotated_types import Ge

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider, Words


class RandomForm(StrEnum):
    """Kind of random vector."""

    head_outputs = "head_outputs"
    """The sum of random outputs of the vector's heads, through their projections; each output has its head's norm."""
    isotropic = "isotropic"
    """A uniformly random direction with the vector's norm; always used if the vector's heads are not known."""


@dataclass
class RandomVector(ConditionProvider):
    """Random vectors comparable to the function vector: they show the effect of any such vector."""

    draws: Annotated[int, Ge(1)] = 20
    """Number of random vectors."""
    form: RandomForm = RandomForm.head_outputs
    """`head_outputs`: the sum of random outputs of the vector's heads; `isotropic`: uniformly random directions."""

    words: ClassVar[Mapping[str, Words]] = {
        "random_vector": Words(
            "random vector",
            "The mean of the random vectors",
            column="best random vector",
            column_at=60,
            in_cost_figure=True,
        ),
    }
    place: ClassVar[int] = 20
    away_too: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.controls import isotropic_vectors, vectors_of_random_outputs

        if at.heads is None or self.form is RandomForm.isotropic:
            found = isotropic_vectors(at.vector, self.draws, at.seed, at.cell.layer)
        else:
            found = vectors_of_random_outputs(at.lm, at.vector, at.heads, self.draws, at.seed)
        for draw, values in enumerate(found):
            yield at.control("random_vector", values, draw, all_draws=False)
