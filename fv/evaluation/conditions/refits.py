"""Refits of the function vector from resampled fit trials: they show how much it depends on the drawn trials."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider


@dataclass
class Refits(ConditionProvider):
    """Refits: vectors whose heads and means come from resampled fit trials. Their spread widens intervals.

    Each refit comes with the vector of the same heads over corrupted prompts.
    """

    draws: Annotated[int, Ge(2)] = 20
    """Number of times that fit trials are resampled."""

    place: ClassVar[int] = 15
    needs_effects: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.refits import refits

        if at.effects is None or at.ranking is None:
            return
        found = list(refits(at.lm, at.effects, at.vector, at.ranking, self.draws, at.seed))
        for draw, refit in enumerate(found):
            yield at.refit("fv_refit", refit.vector, draw, "fv")
        for draw, refit in enumerate(found):
            yield at.refit("corrupted_prompts_refit", refit.corrupted, draw, "corrupted_prompts")
