"""Flows: a step's work as stages of units, one after the other.

A flow is a generator. It yields a stage, is sent the results of the stage's units, chooses the next stage by them, and
returns the result of the whole. A driver (`fv.work.driver`) has the units computed: in this process, on workers, or by
an engine that only records their cost. So the order of a step is written once.
"""

from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from fv.progress import Advance
from fv.work.store import Arrays, UnitName

T = TypeVar("T")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Unit:
    """A piece of work that is kept once it is finished.

    Attributes:
        name: its kind, relation and part.
        depends_on: returns all that its numbers depend on besides the model, as JSON; called only for a store.
        n_trials: the number of its trials.
        cost: how long it takes relative to the other units of its stage, in any unit.
        like: units of one stage with equal `like` cost the same; None if that is not known.
        rows: the rows that count as its steps of progress; None to count trials.
    """

    name: UnitName
    depends_on: Callable[[], Any]
    n_trials: int = 0
    cost: float = 1.0
    like: Hashable = None
    rows: int | None = None

    @property
    def n_steps(self) -> int:
        """Its steps of progress."""
        return self.n_trials if self.rows is None else self.rows

    @cached_property
    def made_from(self) -> Any:
        """The result of `depends_on`."""
        return self.depends_on()


@dataclass(frozen=True)
class Job:
    """Units that are cheaper to compute together; no number of one depends on which others are computed.

    Attributes:
        units: the units.
        compute: takes the places of the units that are due and a progress callback, and yields the arrays of each in
            turn.
        at_once: how many of them a worker is given together.
    """

    units: Sequence[Unit]
    compute: Callable[[Sequence[int], Advance], Iterator[Arrays]]
    at_once: int = 1

    @classmethod
    def of(cls, unit: Unit, compute: Callable[[Advance], Arrays]) -> "Job":
        """The job of a single unit."""

        def computed(due: Sequence[int], advance: Advance) -> Iterator[Arrays]:
            del due
            yield compute(advance)

        return cls([unit], computed)


@dataclass(frozen=True)
class Stage:
    """Jobs that do not wait for one another.

    Attributes:
        name: what is done, such as `effects`.
        jobs: the jobs.
        quick: whether its units take less time to compute than to give to workers.
    """

    name: str
    jobs: Sequence[Job]
    quick: bool = False

    @property
    def units(self) -> list[Unit]:
        """The units of all jobs."""
        return [unit for job in self.jobs for unit in job.units]


Found = list[list[Arrays]]
"""The results of a stage's units, job by job."""
Flow = Generator[Stage, Found, T]
"""Yields stages, is sent the results of each, and returns its own result."""


def groups(name: str, jobs: Sequence[Sequence[Job]]) -> Flow[list[Found]]:
    """Yield one stage of several groups of jobs, and return the results of each group."""
    found = iter((yield Stage(name, [job for group in jobs for job in group])))
    return [[next(found) for _ in group] for group in jobs]


def together(flows: Mapping[Key, Flow[T]]) -> Flow[dict[Key, T]]:
    """Run flows side by side, joining stages of the same name, and return the result of each flow."""
    waiting: dict[Key, Stage] = {}
    ended: dict[Key, T] = {}

    def go_on(key: Key, found: Found | None) -> None:
        try:
            waiting[key] = flows[key].send(found)  # type: ignore[arg-type]  # None starts a generator
        except StopIteration as end:
            ended[key] = end.value

    for key in flows:
        go_on(key, None)
    while waiting:
        name = next(iter(waiting.values())).name
        these = {key: stage for key, stage in waiting.items() if stage.name == name}
        found = yield from groups(name, [stage.jobs for stage in these.values()])
        for key, own in zip(these, found, strict=True):
            del waiting[key]
            go_on(key, own)
        waiting = {key: waiting[key] for key in flows if key in waiting}
    return {key: ended[key] for key in flows}


def finished(flow: Flow[T], do: Callable[[Stage], Found]) -> T:
    """The result of a flow, each of whose stages `do` computes."""
    try:
        stage = next(flow)
        while True:
            stage = flow.send(do(stage))
    except StopIteration as end:
        return end.value
    finally:
        flow.close()  # releases what it holds, such as prompts that an engine keeps
