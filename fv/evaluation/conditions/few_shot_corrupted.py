"""Corrupted few-shot prompts, with and without the function vector."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

from fv.data.prompt_kinds import CORRUPTED
from fv.evaluation.candidate import Candidate
from fv.evaluation.context import RelationContext, VectorContext
from fv.evaluation.provider import ConditionProvider, Words


@dataclass
class FewShotCorrupted(ConditionProvider):
    """Corrupted prompt, without and with the vector at its best cell there: it shows whether the vector corrects it."""

    words: ClassVar[Mapping[str, Words]] = {
        "few_shot_corrupted_fv": Words("few-shot corrupted fv", column="corrupted + vector", column_at=30),
    }
    place: ClassVar[int] = 90

    def of_relation(self, at: RelationContext) -> Iterator[Candidate]:
        yield Candidate("few_shot_corrupted", CORRUPTED)

    def of_vector(self, at: VectorContext) -> Iterator[Candidate]:
        minus = ("few_shot_corrupted", "few_shot")
        yield at.injected("few_shot_corrupted_fv", CORRUPTED, minus)
