"""Ablation of the vector's heads in the clean prompt: it shows whether the model needs them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from fv.data.prompt_kinds import CLEAN
from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider, Words
from fv.vectors.options import Fixed


@dataclass
class AblatedHeads(ConditionProvider):
    """Clean prompts with the vector's heads set to their mean over corrupted prompts, and the same with random heads.

    The random heads are in the same layers.
    """

    draws: Annotated[int, Ge(0)] = 10
    """Number of distinct sets of random heads, fewer if there are not so many; 0 for none."""

    words: ClassVar[Mapping[str, Words]] = {
        "ablated_top_heads": Words("ablated top heads"),
        "ablated_random_heads": Words("ablated random heads"),
    }
    place: ClassVar[int] = 80
    needs_effects: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.interventions.edits import SetHeads
        from fv.vectors.controls import random_head_sets

        if (made_of := at.heads) is None:
            return
        corrupted, fv = at.relation.means.corrupted, at.vector.name
        top, minus = Fixed(SetHeads(made_of.heads, corrupted)), ("ablated_random_heads", "few_shot")
        yield Candidate("ablated_top_heads", CLEAN, top, fv, minus=minus)
        sets, all_draws = random_head_sets(at.vector, made_of, self.draws, at.seed)
        for draw, heads in enumerate(sets):
            random = Fixed(SetHeads(heads, corrupted))
            yield Candidate("ablated_random_heads", CLEAN, random, fv, draw, all_draws=all_draws)
