"""What the same heads make of wrong examples in the vector's place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider


@dataclass
class CorruptedPrompts(ConditionProvider):
    """The vector that the same heads make from corrupted prompts: what format and outputs alone give."""

    place: ClassVar[int] = 50
    needs_effects: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.function_vector import vector_of_heads

        if (made_of := at.heads) is not None:
            yield at.control("corrupted_prompts", vector_of_heads(at.lm, made_of.means.corrupted, made_of.heads))
