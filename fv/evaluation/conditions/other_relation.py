"""Other relations' vectors, injected in place of the function vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider, Words


@dataclass
class OtherRelation(ConditionProvider):
    """Vectors of all other relations of the run: they show whether the effect is specific to this relation."""

    words: ClassVar[Mapping[str, Words]] = {
        "other_relation": Words("other relation", "The mean over the other relations' vectors"),
    }
    place: ClassVar[int] = 60
    needs_effects: ClassVar[bool] = True
    made_of_others: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        for draw, (q_id, values) in enumerate(sorted(at.others.items())):
            yield at.control("other_relation", values, draw, of=q_id)
