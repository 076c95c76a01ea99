"""Prices of units, stage by stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fv.pricing.memory import BESIDE
from fv.pricing.priced_engine import PricedEngine
from fv.pricing.work import Work, total
from fv.units import Arrays, UnitName, UnitStore


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
        if work.n_prompts or work.rows:
            self.add(UnitPrice(work, peak + BESIDE), n_trials)
        else:
            self.n_trials += n_trials

    def add(self, unit: UnitPrice, n_trials: int) -> None:
        """Add a unit."""
        self.units.append(unit)
        self.n_trials += n_trials


@dataclass(frozen=True, kw_only=True)
class PricedUnits(UnitStore):
    """Finds no unit, and takes the price of each that is computed to the stage of its kind.

    Attributes:
        engine: what prices it.
        stages: {kind of unit: stage}.
    """

    folder: None = None
    made_with: None = None
    engine: PricedEngine
    stages: Mapping[str, StagePrice]

    def keep(self, name: UnitName, made_from: Any, arrays: Arrays) -> None:
        del made_from
        self.stages[name.kind].take(self.engine, _n_trials(arrays))


@dataclass(frozen=True, kw_only=True)
class UnitsByLength(PricedUnits):
    """Has units of prompts of the same lengths priced once: where no prompts are kept, they cost the same.

    Attributes:
        known: {(kind of unit, tokens of its prompts): its price, and what it gave}.
    """

    known: dict[tuple[str, tuple[int, ...]], tuple[UnitPrice, Arrays]] = field(default_factory=dict)

    def find(self, name: UnitName, made_from: Any) -> Arrays | None:
        if (found := self.known.get(_lengths(name, made_from))) is None:
            return None
        price, arrays = found
        self.stages[name.kind].add(price, _n_trials(arrays))
        return arrays

    def keep(self, name: UnitName, made_from: Any, arrays: Arrays) -> None:
        super().keep(name, made_from, arrays)
        self.known[_lengths(name, made_from)] = self.stages[name.kind].units[-1], arrays


def _lengths(name: UnitName, made_from: Any) -> tuple[str, tuple[int, ...]]:
    """What a unit of StepD costs by (`fv.heads.relation_run`): how many tokens each of its prompts has."""
    _, prompts = made_from
    return name.kind, tuple(len(token_ids) for token_ids, _ in prompts)


def _n_trials(arrays: Arrays) -> int:
    return max(map(len, arrays.values()), default=0)
