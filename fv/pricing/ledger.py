"""Prices of units, stage by stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fv.pricing.memory import BESIDE
from fv.pricing.priced_engine import PricedEngine
from fv.pricing.work import Work, total
from fv.units import Arrays, UnitStore


class UnitPrice(NamedTuple):
    """One unit: what it has to do, and the memory above the weights that it needs at once, in bytes."""

    work: Work
    peak: int


@dataclass
class StagePrice:
    """A stage of a step.

    Attributes:
        step: `StepD`, `StepE` or `Step6`.
        name: what is done.
        n_trials: trials that it is done on.
        units: its units, each of which one worker computes.
        only: `exact` or `screened` of what only such a run does; empty of what both do.
    """

    step: str
    name: str
    n_trials: int = 0
    units: list[UnitPrice] = field(default_factory=list)
    only: str = ""

    @property
    def work(self) -> Work:
        """Of all units."""
        return total([unit.work for unit in self.units])

    @property
    def peak(self) -> int:
        """The most memory above the weights that a unit needs at once, in bytes."""
        return max((unit.peak for unit in self.units), default=0)

    def take(self, engine: PricedEngine, n_trials: int = 0) -> None:
        """Take what an engine was asked for since the last time as a unit."""
        work, peak = engine.taken()
        self.n_trials += n_trials
        if work.n_prompts or work.rows:
            self.units.append(UnitPrice(work, peak + BESIDE))


@dataclass(frozen=True, kw_only=True)
class PricedUnits(UnitStore):
    """Finds no unit, and takes the price of each that is computed to the stage that its name begins with.

    Attributes:
        engine: what prices it.
        stages: {how names begin: stage}.
    """

    folder: None = None
    made_with: None = None
    engine: PricedEngine
    stages: Mapping[str, StagePrice]

    def keep(self, name: str, made_from: Any, arrays: Arrays) -> None:
        del made_from
        n_trials = max(map(len, arrays.values()), default=0)
        self.stages[name.partition("-")[0]].take(self.engine, n_trials)
