"""Price of a run: its operations, memory and time, stage by stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import pandas as pd

from fv.dealing import makespan
from fv.markup import frame
from fv.pricing.disk import Disk
from fv.pricing.flops import forward_flops
from fv.pricing.ledger import StagePrice
from fv.pricing.shape import Shape
from fv.pricing.stepd import EXACT, SCREENED
from fv.pricing.throughput import Throughput
from fv.tables import TableRow

WAYS = (EXACT, SCREENED)


class Total(NamedTuple):
    """Price of a whole run.

    Attributes:
        flops: number of floating-point operations.
        forwards: the same, in full forwards of a few-shot prompt.
        memory: bytes of the weights and of the peak memory above them.
        seconds: {number of workers: seconds}, including start-up; empty if the throughput is not known.
    """

    flops: float
    forwards: float
    memory: int
    seconds: dict[int, float]


@dataclass(frozen=True, eq=False)
class Price:
    """Price of a run, exact and screened.

    Attributes:
        shape: the model's shape.
        stages: all stages; `StagePrice.only` marks the stages that only one of the two ways has.
        start_up: {part of a worker's start-up: seconds; None if not known}.
        throughput: the processor's throughput; None if not known.
        workers: numbers of workers that times are given for.
        disk: bytes that an exact run writes to disk.
        notes: the assumptions behind the numbers, one line each.

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
        """Mean number of tokens of a few-shot prompt."""
        clean = self.stages[0].work
        return clean.n_tokens / clean.n_prompts

    @cached_property
    def table(self) -> pd.DataFrame:
        """Table with one row per stage.

        Columns: step, stage, only, trials, prompts, tokens, forwards, flops, memory (bytes above the weights), and, if
        the throughput is known, seconds_<n> for each number of workers.
        """
        return pd.DataFrame(self._rows)

    def total(self, way: str = EXACT) -> Total:
        """Price of the whole run, `exact` or `screened`."""
        here = [row for row in self._rows if row["only"] in ("", way)]
        flops = sum(row["flops"] for row in here)
        memory = self.shape.weight_bytes + max(row["memory"] for row in here)
        before = sum(seconds or 0.0 for seconds in self.start_up.values())
        workers = self.workers if self.throughput else ()
        seconds = {n: before + sum(row[f"seconds_{n}"] for row in here) for n in workers}
        return Total(flops, flops / self._one_forward, memory, seconds)

    def __repr__(self) -> str:
        totals = "; ".join(f"{way} {_shown(self.total(way))}" for way in WAYS)
        return f"Price({self.shape.name}: {totals})"

    def _repr_html_(self) -> str:
        return frame(self.table)

    @property
    def _one_forward(self) -> int:
        return forward_flops(self.shape, round(self.n_tokens))

    @cached_property
    def _rows(self) -> list[TableRow]:
        """Rows of `table`."""
        return [self._row(stage) for stage in self.stages]

    def _row(self, stage: StagePrice) -> TableRow:
        work = stage.work
        flops = work.flops(self.shape)
        counts = {"trials": stage.n_trials, "prompts": work.n_prompts, "tokens": work.n_tokens}
        costs = {"forwards": flops / self._one_forward, "flops": flops, "memory": stage.peak}
        return {"step": stage.step, "stage": stage.name, "only": stage.only, **counts, **costs, **self._seconds(stage)}

    def _seconds(self, stage: StagePrice) -> dict[str, float]:
        """{seconds_<n>: seconds of the stage on n workers}, with its units dealt to the workers."""
        if self.throughput is None:
            return {}
        units = [self.throughput.seconds(unit.work, self.shape) for unit in stage.units]
        return {f"seconds_{n}": makespan(units, n) for n in self.workers}


def _shown(total: Total) -> str:
    times = "".join(f", {seconds:.3g} s on {n} worker{'s' * (n > 1)}" for n, seconds in total.seconds.items())
    return f"{total.flops:.3g} FLOP, {total.memory / 2**30:.3g} GiB{times}"
