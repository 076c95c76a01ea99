"""Drivers: they have the units of a flow computed, here or elsewhere."""

import logging
from collections.abc import Sequence
from itertools import count, groupby
from typing import Any, ClassVar, NamedTuple, Protocol, TypedDict, TypeVar

from fv.errors import ClusterError
from fv.progress import Advance, ignore_progress, progress_bar
from fv.work.flow import Flow, Found, Job, Stage, Unit, finished
from fv.work.store import NO_UNITS, Arrays, UnitStore

log = logging.getLogger(__name__)
T = TypeVar("T")


class Driver(Protocol):
    """Has the units of flows computed, or says which are missing.

    Attributes:
        alone: whether this process computes all units, in one go.
    """

    alone: ClassVar[bool]

    def run(self, flow: Flow[T], title: str, store: UnitStore = NO_UNITS, about: Any = None) -> T:
        """Run a flow to its end, and return its result.

        Args:
            flow: the flow.
            title: the step or analysis that the flow belongs to.
            store: its units, to read and to add to.
            about: what else a worker needs to build the same flow, as JSON.
        """


class Serial:
    """Computes the units that a store lacks in this process, one after the other.

    Attributes:
        shown: whether a bar and the log show the progress.
    """

    alone: ClassVar[bool] = True

    def __init__(self, shown: bool = True) -> None:
        self.shown = shown

    def run(self, flow: Flow[T], title: str, store: UnitStore = NO_UNITS, about: Any = None) -> T:
        """Run a flow to its end with one progress bar per stage, and return its result."""
        del about
        return finished(flow, lambda stage: self._done(stage, title, store))

    def _done(self, stage: Stage, title: str, store: UnitStore) -> Found:
        found: Found = []
        if not self.shown:
            return [found_or_computed(job, store).arrays for job in stage.jobs]
        with progress_bar(f"{title}, {stage.name}", sum(unit.n_steps for unit in stage.units)) as (advance, rename):
            for relation, jobs in groupby(stage.jobs, lambda job: job.units[0].name.relation):
                rename(relation)
                done = [found_or_computed(job, store, advance) for job in jobs]
                found += [each.arrays for each in done]
                if relation:
                    state = "done" if any(each.n_computed for each in done) else "found finished"
                    log.info("%s, %s: %s %s", title, stage.name, relation, state)
        return found


SERIAL = Serial()


class MissingUnit(NamedTuple):
    """A unit that a store lacks.

    Attributes:
        job: number of its job in the stage.
        place: its place in the job.
        key: its key in the store.
        unit: the unit.
        at_once: how many units of its job a worker is given together.
    """

    job: int
    place: int
    key: str
    unit: Unit
    at_once: int


class Missing(NamedTuple):
    """Units of one stage that a store lacks.

    Attributes:
        title: the step or analysis that the flow belongs to.
        about: what else a worker needs to build the flow, as JSON.
        stage: the name of the stage.
        number: how many stages of the flow come before it.
        units: the missing units.
    """

    title: str
    about: Any
    stage: str
    number: int
    units: list[MissingUnit]


class UnitToCompute(TypedDict):
    """A missing unit (`MissingUnit`), as JSON: its name is [kind, relation, place]."""

    job: int
    place: int
    key: str
    unit: list[str]
    at_once: int
    cost: float


class Unfinished(TypedDict):
    """A step that cannot continue, and the missing units of one of its stages (`Missing`), as JSON."""

    step: str
    title: str
    about: Any
    stage: str
    number: int
    units: list[UnitToCompute]


class UnitsMissing(BaseException):
    """Stops a flow whose next units are to be computed elsewhere; not an error."""

    def __init__(self, missing: Missing) -> None:
        self.missing = missing
        super().__init__(f"{len(missing.units)} units of {missing.title}, {missing.stage}")


class UntilMissing:
    """Runs flows until units are missing, and computes only the units of quick stages."""

    alone: ClassVar[bool] = False

    def run(self, flow: Flow[T], title: str, store: UnitStore = NO_UNITS, about: Any = None) -> T:
        """Run a flow to its end, and return its result.

        Raises:
            UnitsMissing: at the first stage that lacks units.
        """
        numbers = count()

        def found(stage: Stage) -> Found:
            if stage.quick:
                next(numbers)
                return [found_or_computed(job, store).arrays for job in stage.jobs]
            number, every = next(numbers), [[store.find(unit) for unit in job.units] for job in stage.jobs]
            missing = [
                MissingUnit(i, place, store.key(job.units[place]), job.units[place], job.at_once)
                for i, (job, own) in enumerate(zip(stage.jobs, every, strict=True))
                for place, arrays in enumerate(own)
                if arrays is None
            ]
            if missing:
                raise UnitsMissing(Missing(title, about, stage.name, number, missing))
            return [[arrays for arrays in own if arrays is not None] for own in every]

        return finished(flow, found)


class Replay:
    """A flow that is brought to one of its stages by the stored units of all earlier stages."""

    def __init__(self, flow: Flow[Any], store: UnitStore) -> None:
        self.flow, self.store, self.number = flow, store, 0
        self.stage: Stage = next(flow)

    def go_on_to(self, number: int) -> Stage:
        """Go on to the stage of this number, counted from 0.

        Raises:
            ClusterError: a unit of an earlier stage is missing.
        """
        while self.number < number:
            every = [[self.store.find(unit) for unit in job.units] for job in self.stage.jobs]
            if any(arrays is None for own in every for arrays in own):
                raise ClusterError(f"{self.store.folder} lacks units of {self.stage.name} that were computed before.")
            self.stage = self.flow.send([[arrays for arrays in own if arrays is not None] for own in every])
            self.number += 1
        return self.stage


class Done(NamedTuple):
    """The results of a job's units, and how many of them had to be computed."""

    arrays: list[Arrays]
    n_computed: int


def found_or_computed(
    job: Job, store: UnitStore, advance: Advance = ignore_progress, places: Sequence[int] | None = None
) -> Done:
    """The results of a job's units: found in a store, or computed and kept there, each as soon as it is finished.

    Args:
        job: the job.
        store: its units.
        advance: progress callback, called with the number of steps done, of a unit's `n_steps`.
        places: places of the requested units in the job; None for all.
    """
    wanted = range(len(job.units)) if places is None else places
    found = {place: arrays for place in wanted if (arrays := store.find(job.units[place])) is not None}
    advance(sum(job.units[place].n_steps for place in found))
    due = [place for place in wanted if place not in found]
    if due:
        for place, arrays in zip(due, job.compute(due, advance), strict=True):
            store.keep(job.units[place], arrays)
            found[place] = arrays
    return Done([found[place] for place in wanted], len(due))
