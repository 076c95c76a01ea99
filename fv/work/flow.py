"""Flows: a step's work as stages of units, one after the other.

A flow is a generator. It yields a stage, is sent what the stage's units gave, decides by that what comes next, and
returns what the whole comes to. Who has the units computed is a driver's business (`fv.work.driver`): in this process,
on workers, or by an engine that only notes what they cost. So the order of a step is told once.
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
        name: what it is of.
        depends_on: gives all that its numbers depend on beside the model, as JSON; asked for when a store is.
        n_trials: trials that it is of.
        cost: how long it takes beside the other units of its stage, in any unit.
        like: units of one stage that are alike cost the same; None where that is not known.
        rows: rows that progress is told in; None for trials.
    """

    name: UnitName
    depends_on: Callable[[], Any]
    n_trials: int = 0
    cost: float = 1.0
    like: Hashable = None
    rows: int | None = None

    @property
    def n_steps(self) -> int:
        """Steps of progress."""
        return self.n_trials if self.rows is None else self.rows

    @cached_property
    def made_from(self) -> Any:
        """What `depends_on` gives."""
        return self.depends_on()


@dataclass(frozen=True)
class Job:
    """Units that are cheaper to compute together; no number of one depends on which others are.

    Attributes:
        units: these.
        compute: given the places of the units that are due, and a progress callback, yields the
            arrays of each in turn.
        at_once: how many of them a worker is given at once.
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
    """Jobs none of which waits for another.

    Attributes:
        name: what is done, such as `effects`.
        jobs: these.
        quick: whether its units take less time than it takes to give them to others.
    """

    name: str
    jobs: Sequence[Job]
    quick: bool = False

    @property
    def units(self) -> list[Unit]:
        """Those of all jobs."""
        return [unit for job in self.jobs for unit in job.units]


Found = list[list[Arrays]]
"""What the units of a stage gave, job by job."""
Flow = Generator[Stage, Found, T]
"""Yields stages, is sent what each gave, and returns what all comes to."""


def groups(name: str, jobs: Sequence[Sequence[Job]]) -> Flow[list[Found]]:
    """One stage of several groups of jobs; returns what each group gave."""
    found = iter((yield Stage(name, [job for group in jobs for job in group])))
    return [[next(found) for _ in group] for group in jobs]


def together(flows: Mapping[Key, Flow[T]]) -> Flow[dict[Key, T]]:
    """Flows side by side: stages of one name are one stage; returns what each flow comes to."""
    waiting: dict[Key, Stage] = {}
    ended: dict[Key, T] = {}

    def go_on(key: Key, found: Found | None) -> None:
        try:
            waiting[key] = flows[key].send(found)  # type: ignore[arg-type]  # a generator is begun with None
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
    """What a flow comes to, with each of its stages done by `do`."""
    try:
        stage = next(flow)
        while True:
            stage = flow.send(do(stage))
    except StopIteration as end:
        return end.value
    finally:
        flow.close()  # what it holds open, such as prompts that an engine keeps, is let go
