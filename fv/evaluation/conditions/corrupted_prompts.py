"""Vector of the same heads over corrupted prompts, injected in place of the function vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider, Words


@dataclass
class CorruptedPrompts(ConditionProvider):
    """Vector of the same heads over corrupted prompts: it shows the effect of prompt format and outputs alone."""

    words: ClassVar[Mapping[str, Words]] = {
        "corrupted_prompts": Words(
            "corrupted prompts", "The same heads' vector over corrupted prompts", leads_at=10, in_cost_figure=True
        ),
    }
    place: ClassVar[int] = 50
    needs_effects: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.function_vector import vector_of_heads

        if (made_of := at.heads) is not None:
            yield at.control("corrupted_prompts", vector_of_heads(at.lm, made_of.means.corrupted, made_of.heads))
