"""Ledger: prices of units, stage by stage, and the driver that collects them."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, TypeVar

from fv.pricing.memory import BESIDE
from fv.pricing.operations import Operations, total
from fv.pricing.priced_engine import PricedEngine
from fv.progress import ignore_progress
from fv.work.flow import Flow, Job, finished
from fv.work.store import NO_UNITS, Arrays, UnitStore

CHOICE = "choice of cells"
"""The stage that choices on dev trials are shown as; the units that need them make them."""
T = TypeVar("T")


class UnitPrice(NamedTuple):
    """Price of one unit: its operations, and its peak memory above the weights, in bytes."""

    work: Operations
    peak: int


@dataclass
class StagePrice:
    """Price of one stage of a step.

    Attributes:
        step: `StepD`, `StepE` or `Step6`.
        name: the stage's name.
        n_trials: number of its trials.
        units: its units, each of which one worker computes.
        only: `exact` or `screened` if only such a run has this stage; empty if both have it.
    """

    step: str
    name: str
    n_trials: int = 0
    units: list[UnitPrice] = field(default_factory=list)
    only: str = ""

    @property
    def work(self) -> Operations:
        """Operations of all units."""
        return total([unit.work for unit in self.units])

    @property
    def peak(self) -> int:
        """Largest peak memory of a unit above the weights, in bytes."""
        return max((unit.peak for unit in self.units), default=0)

    def take(self, engine: PricedEngine, n_trials: int = 0) -> None:
        """Add everything that an engine counted since the last time, as one unit."""
        self.n_trials += n_trials
        work, peak = engine.taken()
        if work.n_prompts or work.rows:
            self.units.append(UnitPrice(work, peak + BESIDE))

    def add(self, unit: UnitPrice, n_trials: int) -> None:
        """Add a unit."""
        self.units.append(unit)
        self.n_trials += n_trials


class Pricing:
    """Driver that prices each unit of a flow, by running it on an engine that only counts.

    If the price of a unit depends on its prompts alone, similar units are priced once.

    Attributes:
        engine: the engine that the flows run on.
        stages: the stages priced so far.
    """

    alone: ClassVar[bool] = True

    def __init__(self, engine: PricedEngine) -> None:
        self.engine = engine
        self.stages: list[StagePrice] = []
        self._known: dict[Any, tuple[UnitPrice, Arrays]] = {}

    def run(self, flow: Flow[T], title: str, store: UnitStore = NO_UNITS, about: Any = None) -> T:
        """Run a flow with meaningless numbers, and return its result."""
        del store, about
        return finished(flow, lambda stage: [self._priced(job, title, stage.name) for job in stage.jobs])

    def _priced(self, job: Job, title: str, name: str) -> list[Arrays]:
        kinds = [self._stage(title, name, unit.name.kind) for unit in job.units]
        like = (title, name, job.units[0].like)
        if like in self._known:
            price, arrays = self._known[like]
            kinds[0].add(price, job.units[0].n_trials)
            return [arrays]
        found = []
        for stage, unit, arrays in zip(
            kinds, job.units, job.compute(range(len(job.units)), ignore_progress), strict=True
        ):
            choices, peak = self.engine.taken_choices(), self.engine.peak
            if choices.n_prompts or choices.rows:
                self._stage(title, CHOICE, CHOICE).add(UnitPrice(choices, peak + BESIDE), unit.n_trials)
            stage.take(self.engine, unit.n_trials)
            found.append(arrays)
        if job.units[0].like is not None and self.engine.prices_by_length and not self.engine.keeps:
            self._known[like] = kinds[0].units[-1], found[0]
        return found

    def _stage(self, step: str, name: str, kind: str) -> StagePrice:
        """Price of a stage's units of one kind, added to `stages` at its first use."""
        shown = name if name == kind else f"{name}, {kind.replace('_', ' ')}"
        known = next((stage for stage in self.stages if (stage.step, stage.name) == (step, shown)), None)
        if known is None:
            known = StagePrice(step, shown)
            self.stages.append(known)
        return known
