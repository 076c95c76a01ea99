"""Corruption: demonstrations with wrong outputs (spec section 5)."""

import functools
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from fv.errors import TrialError
from fv.relations import Pair, normalise


class OutputTable:
    """Which outputs are right for an input, and which there are to draw wrong ones from.

    Args:
        pairs: the relation's pairs.
        shared: those of them whose input may be another pair's input too; all unless given.
    """

    def __init__(self, pairs: Sequence[Pair], shared: Iterable[Pair] | None = None) -> None:
        self._pairs = pairs
        self._right: dict[str, set[str]] = {}
        for pair in pairs if shared is None else shared:
            self._right.setdefault(normalise(pair.exA), set()).add(normalise(pair.exB))

    @functools.cached_property
    def choices(self) -> list[str]:
        """The distinct outputs. Most relations are deranged and never ask."""
        return sorted({pair.exB for pair in self._pairs})

    def is_wrong(self, demo: Pair, output: str) -> bool:
        """Whether `output` is neither the demonstration's own output nor another right one for its input."""
        return normalise(output) not in self.right_for(demo)

    def right_for(self, demo: Pair) -> set[str]:
        """The outputs that are right for the demonstration's input, in normal form."""
        return self._right.get(normalise(demo.exA), set()) | {normalise(demo.exB)}

    def draw_wrong(self, demo: Pair, rng: np.random.Generator) -> str:
        """A wrong output for `demo`, each of the relation's distinct ones equally likely."""
        for _ in range(20):
            output = self.choices[rng.integers(len(self.choices))]
            if self.is_wrong(demo, output):
                return output
        wrong = [output for output in self.choices if self.is_wrong(demo, output)]
        if not wrong:
            raise TrialError(f"cannot corrupt: every output of the relation is right for {demo.exA!r}")
        return wrong[rng.integers(len(wrong))]


def corrupt(
    demos: Sequence[Pair], outputs: OutputTable, rng: np.random.Generator
) -> tuple[list[Pair], Literal["deranged", "relation"]]:
    """Give every demonstration a wrong output.

    Outputs are deranged among the demonstrations when there are two or more and all differ; otherwise each is
    drawn from the relation's distinct outputs. No demonstration keeps an output that is right for its input.

    Args:
        demos: the demonstrations with their right outputs.
        outputs: the relation's outputs.
        rng: the relation's generator.

    Returns:
        the corrupted demonstrations, and `deranged` or `relation`.

    Raises:
        TrialError: a demonstration has no wrong output, as when the relation has one distinct output.
    """
    own = [normalise(demo.exB) for demo in demos]
    if len(demos) > 1 and len(set(own)) == len(own):
        right = [outputs.right_for(demo) for demo in demos]
        # About one permutation in e is a derangement; ambiguous inputs may forbid all, then outputs are drawn.
        for _ in range(200):
            order = rng.permutation(len(demos)).tolist()
            if all(own[i] not in known for i, known in zip(order, right, strict=True)):
                return [Pair(demo.exA, demos[i].exB) for demo, i in zip(demos, order, strict=True)], "deranged"
    return [Pair(demo.exA, outputs.draw_wrong(demo, rng)) for demo in demos], "relation"
