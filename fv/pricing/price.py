"""A price: stage by stage, what is to be done, what it needs, and how long it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from fv.pricing.disk import Disk
from fv.pricing.flops import forward_flops
from fv.pricing.ledger import StagePrice, makespan
from fv.pricing.shape import Shape
from fv.pricing.stepd import EXACT, SCREENED
from fv.pricing.throughput import Throughput

WAYS = (EXACT, SCREENED)


class Total(NamedTuple):
    """The price of a whole run.

    Attributes:
        flops: floating-point operations.
        forwards: the same in full forwards of a few-shot prompt.
        memory: bytes, the weights and the most that is needed above them.
        seconds: {workers: seconds}, start-up among them; empty where no throughput is known.
    """

    flops: float
    forwards: float
    memory: int
    seconds: dict[int, float]


@dataclass(frozen=True, eq=False)
class Price:
    """What a run will cost, exact and screened.

    Attributes:
        shape: the model's.
        stages: each stage; what one of the two ways alone does says so (`StagePrice.only`).
        start_up: {what a worker does before its first unit: seconds}; None where that is not known.
        throughput: how fast work is done; None where that is not known.
        workers: numbers of workers that times are for.
        disk: bytes that an exact run leaves.
        notes: what the numbers take for granted, a line each.

    Example:
        >>> price = fv.plan("smollm2", trials, tflops=0.1)
        >>> price.total("exact").flops > price.total("screened").flops
        True
    """

    shape: Shape
    stages: Sequence[StagePrice]
    start_up: Mapping[str, float | None]
    throughput: Throughput | None
    workers: Sequence[int]
    disk: Disk
    notes: Sequence[str] = ()

    @property
    def n_tokens(self) -> float:
        """Mean tokens of a few-shot prompt."""
        clean = self.stages[0].work
        return clean.n_tokens / clean.n_prompts

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a stage: step, stage, only, trials, prompts, tokens, forwards, flops, memory (bytes above the weights),
        and seconds_<n> of each number of workers where a throughput is known."""
        return pd.DataFrame([self._row(stage) for stage in self.stages])

    def total(self, way: str = EXACT) -> Total:
        """The whole run, `exact` or `screened`."""
        here = [stage for stage in self.stages if stage.only in ("", way)]
        flops = sum(stage.work.flops(self.shape) for stage in here)
        memory = self.shape.weight_bytes + max(stage.peak for stage in here)
        before = sum(seconds or 0.0 for seconds in self.start_up.values())
        seconds = {n: before + sum(self._seconds(stage, n) for stage in here) for n in self.workers}
        return Total(flops, flops / self._one_forward, memory, seconds if self.throughput else {})

    def __repr__(self) -> str:
        totals = "; ".join(f"{way} {_shown(self.total(way))}" for way in WAYS)
        return f"Price({self.shape.name}: {totals})"

    def _repr_html_(self) -> str:
        return self.table.to_html(index=False)

    @property
    def _one_forward(self) -> int:
        return forward_flops(self.shape, round(self.n_tokens))

    def _row(self, stage: StagePrice) -> dict[str, object]:
        work = stage.work
        flops = work.flops(self.shape)
        counts = {"trials": stage.n_trials, "prompts": work.n_prompts, "tokens": work.n_tokens}
        costs = {"forwards": flops / self._one_forward, "flops": flops, "memory": stage.peak}
        seconds = {f"seconds_{n}": self._seconds(stage, n) for n in self.workers} if self.throughput else {}
        return {"step": stage.step, "stage": stage.name, "only": stage.only, **counts, **costs, **seconds}

    def _seconds(self, stage: StagePrice, n_workers: int) -> float:
        """A stage's, with its units handed out to workers."""
        if self.throughput is None:
            return 0.0
        return makespan([self.throughput.seconds(unit.work, self.shape) for unit in stage.units], n_workers)


def _shown(total: Total) -> str:
    times = "".join(f", {seconds:.3g} s on {n} worker{'s' * (n > 1)}" for n, seconds in total.seconds.items())
    return f"{total.flops:.3g} FLOP, {total.memory / 2**30:.3g} GiB{times}"
