"""Vector of the lowest-ranked heads, injected in place of the function vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider, Words


@dataclass
class BottomHeads(ConditionProvider):
    """Vector of the lowest-ranked heads, as many as the function vector has: it shows whether the ranking matters.

    The function vector's own heads are left out.
    """

    words: ClassVar[Mapping[str, Words]] = {
        "bottom_heads": Words("bottom heads", "The vector of the lowest-ranked heads"),
    }
    place: ClassVar[int] = 40
    needs_effects: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.function_vector import vector_of_heads

        if (made_of := at.heads) is None:
            return
        k = len(made_of.heads)
        others = [head for head in made_of.ranking if head not in made_of.heads]
        if k <= len(others):
            yield at.control("bottom_heads", vector_of_heads(at.lm, made_of.means.clean, others[-k:]))
