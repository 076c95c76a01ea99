"""How many demonstrations and trials a relation can give (spec section 5)."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fv.config import DataConfig, Split


@dataclass(frozen=True)
class Capacity:
    """The most a relation supports of each count while the other two stay as configured, whatever the seed."""

    demos: int
    fit: int
    eval: int


def capacity(groups: np.ndarray, usable: np.ndarray, data: DataConfig) -> Capacity:
    """How far each count could be raised alone.

    Args:
        groups: the kin group of each pair, (n_pairs,).
        usable: whether each pair can be a query, (n_pairs,).
        data: the other counts and the split policy.
    """
    n_groups = len(np.unique(groups))
    # Eval queries come from different groups, and each sets its whole group aside: the largest ones at worst.
    sizes = sorted(Counter(groups[usable].tolist()).values(), reverse=True)
    if data.split is Split.shared:
        fit = sum(sizes) if n_groups > data.n_demos else 0
        return Capacity(demos=max(0, n_groups - 1), fit=fit, eval=0)
    n_eval = 0
    left = int(usable.sum())
    for size in sizes:
        if n_groups - n_eval <= data.n_demos + 1 or left - size < data.n_trials_per_q:
            break
        n_eval, left = n_eval + 1, left - size
    asked = data.n_eval_trials_per_q
    return Capacity(
        demos=max(0, n_groups - asked - 1),
        fit=sum(sizes[asked:]) if n_groups - asked > data.n_demos else 0,
        eval=n_eval,
    )


def advice(most: Capacity, data: DataConfig, works: Callable[[DataConfig], bool]) -> str:
    """What to ask of a relation that cannot give its trials: each count that, lowered alone, is enough.

    Args:
        most: the relation's capacity under `data`.
        data: what was asked.
        works: whether other counts can be sampled; asked of every count before it is named.
    """
    counts = {"n_eval_trials_per_q": (most.eval, "eval trial"), "n_demos": (most.demos, "demonstration")}
    if data.split is Split.shared:
        del counts["n_eval_trials_per_q"]
    if most.fit >= (data.n_mean_trials or 1):
        counts["n_trials_per_q"] = (most.fit, "fit trial")

    def changed(key: str, count: int) -> DataConfig:
        value: dict[str, Any] = {key: count}
        return replace(data, **value)

    named = [
        f"{count} {noun}{'s' * (count > 1)}"
        for key, (count, noun) in counts.items()
        if 0 < count < getattr(data, key) and works(changed(key, count))
    ]
    if not named:
        return _together(data, works)
    others = "other as it is" if data.split is Split.shared else "other two as they are"
    allowed = f"{data.called('allow_drop')}=true"
    return f"At most {', or '.join(named)} would work with the {others}; or say {allowed}."


def _together(data: DataConfig, works: Callable[[DataConfig], bool]) -> str:
    """Which counts work where no single one, lowered alone, would: all of them, lowered alike."""
    asked = {"n_trials_per_q": data.n_trials_per_q, "n_demos": data.n_demos}
    if data.split is Split.held_out:
        asked["n_eval_trials_per_q"] = data.n_eval_trials_per_q
    steps = max(asked.values())

    def lowered(step: int) -> DataConfig:
        counts: dict[str, Any] = {key: max(1, count * step // steps) for key, count in asked.items()}
        counts["n_trials_per_q"] = max(counts["n_trials_per_q"], data.n_mean_trials or 1)
        return replace(data, **counts)

    most = bisect_left(range(1, steps), True, key=lambda step: not works(lowered(step)))
    if most == 0:
        return f"Ask for fewer trials and demonstrations, or say {data.called('allow_drop')}=true."
    named = " ".join(f"{data.called(key)}={getattr(lowered(most), key)}" for key in asked)
    return f"Together these would work: {named}; or say {data.called('allow_drop')}=true."
