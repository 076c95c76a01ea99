"""Mean of the other relations' vectors, injected in place of the function vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fv.evaluation.candidate import Candidate
from fv.evaluation.context import VectorContext
from fv.evaluation.provider import ConditionProvider, Words


@dataclass
class MeanOfOthers(ConditionProvider):
    """Mean of all other relations' vectors: it shows the effect of the relations' common part."""

    words: ClassVar[Mapping[str, Words]] = {
        "mean_of_others": Words("mean of others", "The mean vector of the other relations"),
    }
    place: ClassVar[int] = 70
    needs_effects: ClassVar[bool] = True
    made_of_others: ClassVar[bool] = True

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        from fv.vectors.controls import mean_vector

        if at.others:
            yield at.control("mean_of_others", mean_vector([at.others[q_id] for q_id in sorted(at.others)]))
