"""The capacity of a relation: how many demonstrations and trials it can give (spec section 5)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

import numpy as np

from fv.config import DataConfig, Split
from fv.data.hold_out import LEAST_QUERIES, FitSide


@dataclass(frozen=True)
class Capacity:
    """The largest counts that a relation supports, each with the other counts as configured, and its fit queries.

    Fit trials have no such bound: queries are used again with other demonstrations.

    Attributes:
        demos: most demonstrations, with the other counts as configured.
        queries: distinct queries of fit trials, at least, with all counts as configured; 0 if these are impossible.
        eval: most held-out eval trials, with the other counts as configured.
    """

    demos: int
    queries: int
    eval: int


class _Counts(NamedTuple):
    """The settings of `DataConfig` that a relation may be too small for."""

    n_demos: int
    n_trials_per_q: int
    n_eval_trials_per_q: int

    @classmethod
    def of(cls, data: DataConfig) -> "_Counts":
        return cls(data.n_demos, data.n_trials_per_q, data.n_eval_trials_per_q)

    def put_into(self, data: DataConfig) -> DataConfig:
        """The settings with these counts."""
        n_demos, n_fit, n_eval = self
        return replace(data, n_demos=n_demos, n_trials_per_q=n_fit, n_eval_trials_per_q=n_eval)


def capacity(
    groups: np.ndarray,
    usable: np.ndarray,
    data: DataConfig,
    outputs: np.ndarray | None = None,
    order: Sequence[int] | None = None,
) -> Capacity:
    """Find how far each count could be raised while the others stay as configured.

    The result does not depend on the seed, unless outputs are held out: then the pairs that are left depend on which
    queries come first.

    Args:
        groups: the kin group of each pair, (n_pairs,).
        usable: whether each pair can be a query, (n_pairs,).
        data: the other counts and the split policy.
        outputs: the output of each pair as a number, (n_pairs,), if outputs are held out.
        order: the order in which pairs are then held out; the order of the pairs unless given.
    """
    n_groups = len(np.unique(groups))
    # Eval queries come from different groups, and each sets its whole group aside: in the worst case the largest ones.
    sizes = sorted(Counter(groups[usable].tolist()).values(), reverse=True)
    if data.split is Split.shared:
        queries = sum(sizes) if n_groups > data.n_demos else 0
        return Capacity(demos=max(0, n_groups - 1), queries=queries, eval=0)
    if outputs is not None:
        return _without_outputs(groups, usable, data, outputs, range(len(groups)) if order is None else order)
    n_eval = 0
    left = int(usable.sum())
    for size in sizes:
        if n_groups - n_eval <= data.n_demos + 1 or left - size < min(data.n_trials_per_q, LEAST_QUERIES):
            break
        n_eval, left = n_eval + 1, left - size
    asked = data.n_eval_trials_per_q
    return Capacity(
        demos=max(0, n_groups - asked - 1),
        queries=sum(sizes[asked:]) if n_groups - asked > data.n_demos else 0,
        eval=n_eval,
    )


def _without_outputs(
    groups: np.ndarray, usable: np.ndarray, data: DataConfig, outputs: np.ndarray, order: Sequence[int]
) -> Capacity:
    """The capacity if outputs are held out, counted by holding them out."""

    def held_out(n_demos: int, wanted: int | None) -> tuple[int, int]:
        """The number of eval queries, up to `wanted`, and the number of fit queries that are left."""
        side = FitSide(groups, outputs, replace(data, n_demos=n_demos))
        n = sum(1 for _ in islice(side.candidates(order, lambda i: bool(usable[i])), wanted))
        return n, int((side.left & usable).sum())

    asked = data.n_eval_trials_per_q
    n_eval, queries = held_out(data.n_demos, asked)
    counts = range(1, len(np.unique(groups)))
    return Capacity(
        demos=bisect_left(counts, True, key=lambda n_demos: held_out(n_demos, asked)[0] < asked),
        queries=queries if n_eval == asked else 0,
        eval=held_out(data.n_demos, None)[0],
    )


def advice(most: Capacity, data: DataConfig, works: Callable[[DataConfig], bool], n_fit: int) -> str:
    """Advice for a relation that cannot give its trials: each count that is enough if it alone is lowered.

    Args:
        most: the relation's capacity under `data`.
        data: the requested counts.
        works: tells whether other counts can be sampled; called for every count before it is named.
        n_fit: the number of fit trials that the relation did give.
    """
    counts = [("n_eval_trials_per_q", most.eval, "eval trial")] * (data.split is Split.held_out)
    counts.append(("n_demos", most.demos, "demonstration"))
    # With fewer fit trials than queries, more pairs can be held out; otherwise all different prompts were used up.
    n_trials = most.queries if n_fit == data.n_trials_per_q else n_fit
    if n_trials >= (data.n_mean_trials or 1):
        counts.append(("n_trials_per_q", n_trials, "fit trial"))

    def changed(key: str, count: int) -> DataConfig:
        return _Counts.of(data)._replace(**{key: count}).put_into(data)

    named = [
        f"{count} {noun}{'s' * (count > 1)}"
        for key, count, noun in counts
        if 0 < count < getattr(data, key) and works(changed(key, count))
    ]
    if not named:
        return _together(data, works)
    others = "other as it is" if data.split is Split.shared else "other two as they are"
    allowed = f"{data.called('allow_drop')}=true"
    return f"At most {', or '.join(named)} would work with the {others}; or say {allowed}."


def _together(data: DataConfig, works: Callable[[DataConfig], bool]) -> str:
    """Advice if lowering a single count is not enough: several counts, lowered alike, and fit trials if needed."""
    allowed = f"{data.called('allow_drop')}=true"
    asked = {"n_demos": data.n_demos}
    if data.split is Split.held_out:
        asked["n_eval_trials_per_q"] = data.n_eval_trials_per_q
    # Only fewer fit trials than `LEAST_QUERIES` leave more pairs to hold out; all larger numbers leave the same.
    for fit in ({}, {"n_trials_per_q": min(data.n_trials_per_q, LEAST_QUERIES)}):
        if found := _lowered({**asked, **fit}, data, works):
            counts = ("n_trials_per_q", *asked)
            named = " ".join(f"{data.called(key)}={getattr(found, key)}" for key in counts)
            return f"Together these would work: {named}; or say {allowed}."
    return f"Ask for fewer trials and demonstrations, or say {allowed}."


def _lowered(asked: dict[str, int], data: DataConfig, works: Callable[[DataConfig], bool]) -> DataConfig | None:
    """The settings with the highest counts that work when all counts of `asked` are lowered alike; None if none do."""
    steps = max(asked.values())

    def lowered(step: int) -> DataConfig:
        counts = {key: max(1, count * step // steps) for key, count in asked.items()}
        if "n_trials_per_q" in counts:
            counts["n_trials_per_q"] = max(counts["n_trials_per_q"], data.n_mean_trials or 1)
        return _Counts.of(data)._replace(**counts).put_into(data)

    most = bisect_left(range(1, steps), True, key=lambda step: not works(lowered(step)))
    return lowered(most) if most else None
