"""What StepD has to do: `fv.heads.relation_run` itself is run, on an engine that only notes what it is asked."""

from collections.abc import Sequence
from dataclasses import replace

from fv.config import Screen
from fv.config.score import ScoreConfig
from fv.heads.relation_run import RelationRuns
from fv.heads.screened_run import estimate_of
from fv.heads.verified import fewest_verified
from fv.interventions.engine import Head
from fv.pricing.ledger import PricedUnits, StagePrice, UnitsByLength
from fv.pricing.priced_engine import PricedEngine
from fv.pricing.workload import Workload

EXACT, SCREENED = "exact", "screened"
GROWTH = 0.37
"""Of n rankings, n ** GROWTH times as many heads are verified as of one. Measured on SmolLM2: of one relation 50 beside
the 32 random ones, of the demo's eight 107, which is 8 ** 0.37 times as many (README, "How fast")."""


def stepd_stages(load: Workload) -> list[StagePrice]:
    """StepD both ways: exact, of all heads, and screened; what both have in common is counted once.

    Where ranking is adaptive, all trials are counted: how early it is stable cannot be known.
    """
    exact = _exact(load)
    return [*exact, *_screened(load)]


def _exact(load: Workload) -> list[StagePrice]:
    clean, zero_shot = StagePrice("StepD", "clean prompts"), StagePrice("StepD", "zero-shot prompts")
    effects = StagePrice("StepD", "effects of all heads", only=EXACT)
    stages = {"clean": clean, "zero_shot": zero_shot, "effects": effects, "corrupted": effects}
    engine = load.engine()
    units = UnitsByLength if engine.prices_by_length else PricedUnits
    runs = _runs(load, engine, units(engine=engine, stages=stages))
    for q_id in load.snapshot.qids:
        runs.relation(q_id)
    return [clean, zero_shot, effects]


def _screened(load: Workload) -> list[StagePrice]:
    """The stages that differ (`fv.heads.screened_run.screened`); a wider choice of heads is not counted."""
    scores = StagePrice("StepD", "estimates of all heads", only=SCREENED)
    effects = StagePrice("StepD", "effects of verified heads", only=SCREENED)
    both = StagePrice("StepD", "")  # priced by `_exact`
    stages = {"clean": both, "zero_shot": both, "screen": scores, "effects": effects, "corrupted": effects}
    engine = load.engine()
    runs = _runs(load, engine, PricedUnits(engine=engine, stages=stages))
    estimate = estimate_of(runs.engine, screened_score(load.score))
    assert estimate is not None
    begun = [runs.begin(q_id) for q_id in load.snapshot.qids]
    with runs.engine.keeping(load.compute.keep_mb * 2**20):
        for first in begun:
            runs.estimates(first, estimate)
        verified = replace(runs, heads=spread(load.heads, n_verified(load)))
        for first in begun:
            verified.sweep(first)
    return [scores, effects]


def _runs(load: Workload, engine: PricedEngine, units: PricedUnits) -> RelationRuns:
    score, n_mean = replace(load.score, adaptive=False), load.n_mean_trials
    size = load.compute.unit_trials or 1  # a pass each, as workers share them
    return RelationRuns(load.lm, load.snapshot, load.heads, engine, score, load.seed, n_mean, size, units)


def n_verified(load: Workload) -> int:
    """Heads that a screened run verifies: as told, or as many as its rankings are likely to choose."""
    every, score, n_rankings = len(load.heads), load.score, len(load.snapshot.qids)
    if load.n_verified is not None:
        return min(every, load.n_verified)
    chosen = fewest_verified(every, score.n_verify, 0) * n_rankings**GROWTH
    return min(every, round(chosen) + score.verify_random)


def spread(heads: Sequence[Head], count: int) -> list[Head]:
    """So many of the heads, spread over the layers."""
    return [heads[i * len(heads) // count] for i in range(count)]


def screened_score(score: ScoreConfig) -> ScoreConfig:
    """The settings of a screened run beside an exact one: those of the run, or `gradient`."""
    return score if score.screen is not Screen.none else replace(score, screen=Screen.gradient)
