"""Corruption: demonstrations with outputs other than their own (spec section 5)."""

import functools
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from fv.config import Corruption
from fv.data.relations import Pair, normalise
from fv.data.trial import WrongOutputs
from fv.errors import TrialError

RANDOM_ORDERS = 1000
"""Random orders that are tried before an assignment is searched for."""


class OutputTable:
    """The outputs of a relation: those that are right for an input, and all from which wrong ones are drawn.

    Args:
        pairs: the relation's pairs.
        shared: the pairs whose input may also be another pair's input; all unless given.
    """

    def __init__(self, pairs: Sequence[Pair], shared: Iterable[Pair] | None = None) -> None:
        self._pairs = pairs
        self._right: dict[str, set[str]] = {}
        for pair in pairs if shared is None else shared:
            self._right.setdefault(normalise(pair.exA), set()).add(normalise(pair.exB))

    @functools.cached_property
    def choices(self) -> list[str]:
        """The distinct outputs."""
        return sorted({pair.exB for pair in self._pairs})

    def is_wrong(self, demo: Pair, output: str) -> bool:
        """True if `output` is neither the demonstration's own output nor another right one for its input."""
        return normalise(output) not in self.right_for(demo)

    def right_for(self, demo: Pair) -> set[str]:
        """The outputs that are right for the demonstration's input, in normal form."""
        return self._right.get(normalise(demo.exA), set()) | {normalise(demo.exB)}

    def draw_wrong(self, demo: Pair, rng: np.random.Generator) -> str:
        """Draw a wrong output for `demo`, each of the relation's distinct wrong outputs equally likely.

        Raises:
            TrialError: every output of the relation is right for its input.
        """
        for _ in range(20):
            output = self.choices[rng.integers(len(self.choices))]
            if self.is_wrong(demo, output):
                return output
        wrong = [output for output in self.choices if self.is_wrong(demo, output)]
        if not wrong:
            raise TrialError(f"cannot corrupt: every output of the relation is right for {demo.exA!r}")
        return wrong[rng.integers(len(wrong))]


def corrupt(
    demos: Sequence[Pair], outputs: OutputTable, rng: np.random.Generator, policy: Corruption = Corruption.derange
) -> tuple[list[Pair], WrongOutputs]:
    """Give the demonstrations of a prompt other outputs.

    Under `derange` no demonstration gets an output that is right for its input. The demonstrations' own outputs are
    rearranged if any arrangement achieves this, even if outputs repeat; otherwise each output is drawn from the
    relation's distinct outputs. Under `permute` their own outputs are permuted and may stay right.

    Args:
        demos: the demonstrations with their right outputs.
        outputs: the relation's outputs.
        rng: the relation's generator.
        policy: the outputs that are allowed.

    Returns:
        the corrupted demonstrations, and `deranged`, `relation` or `permuted`.

    Raises:
        TrialError: under `derange`, a demonstration has no wrong output, e.g. because the relation has one output only.
    """
    if policy is Corruption.permute:
        return _rearranged(demos, rng.permutation(len(demos))), "permuted"
    own = [normalise(demo.exB) for demo in demos]
    allowed = np.array([[output not in right for output in own] for right in map(outputs.right_for, demos)])
    if len(demos) > 1 and len(set(own)) == len(own):
        # About one permutation in e is a derangement.
        for _ in range(200):
            order = rng.permutation(len(demos))
            if allowed[np.arange(len(demos)), order].all():
                return _rearranged(demos, order), "deranged"
    # Drawn before the search, which has a generator of its own: later trials do not depend on the search.
    drawn = [Pair(demo.exA, outputs.draw_wrong(demo, rng)) for demo in demos]
    found = admissible_order(allowed, rng.spawn(1)[0])
    return (drawn, "relation") if found is None else (_rearranged(demos, found), "deranged")


def admissible_order(allowed: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """A random order of n items that puts each in a place where it is allowed; None if there is none.

    Args:
        allowed: whether place i may take item j, (n, n) bool.
        rng: chooses the order; every allowed order can occur, each equally likely unless they are very rare among all
            orders.

    Returns:
        the item of each place, (n,).
    """
    places = np.arange(len(allowed))
    orders = rng.permuted(np.tile(places, (RANDOM_ORDERS, 1)), axis=1)
    good = allowed[places, orders].all(axis=1)
    if good.any():
        return orders[good.argmax()]
    # Too rare to find by chance, or there is none: an assignment of finite cost is an allowed order.
    try:
        return linear_sum_assignment(np.where(allowed, rng.random(allowed.shape), np.inf))[1]
    except ValueError:  # every assignment has infinite cost
        return None


def _rearranged(demos: Sequence[Pair], order: np.ndarray) -> list[Pair]:
    return [Pair(demo.exA, demos[i].exB) for demo, i in zip(demos, order.tolist(), strict=True)]
