"""Vectors of random heads, injected in place of the function vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider, Words


@dataclass
class RandomHeads(ConditionProvider):
    """Vectors of equally many random heads in the same layers: they show the effect of any such heads."""

    draws: Annotated[int, Ge(1)] = 10
    """Number of distinct sets of heads, fewer if there are not so many."""

    words: ClassVar[Mapping[str, Words]] = {
        "random_heads": Words("random heads", "The mean over random heads' vectors"),
    }
    place: ClassVar[int] = 30
    needs_effects: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.controls import random_head_sets
        from fv.vectors.function_vector import vector_of_heads

        if (made_of := at.heads) is None:
            return
        sets, all_draws = random_head_sets(at.vector, made_of, self.draws, at.seed)
        for draw, heads in enumerate(sets):
            values = vector_of_heads(at.lm, made_of.means.clean, heads)
            yield at.control("random_heads", values, draw, all_draws=all_draws)
