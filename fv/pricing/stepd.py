"""What StepD has to do: its flow, on an engine that only notes what it is asked."""

from dataclasses import replace

from fv.config import Screen, StatsConfig
from fv.config.score import ScoreConfig
from fv.heads.measurement import Measurement
from fv.heads.relations import effects_flow
from fv.heads.verification import NEGATIVE_SHARE, fewest_verified
from fv.pricing.ledger import Pricing, StagePrice
from fv.pricing.workload import Workload

EXACT, SCREENED = "exact", "screened"
GROWTH = 0.37
"""Of n rankings, n ** GROWTH times as many heads are verified as of one. Measured on SmolLM2: of one relation 50 beside
the 32 random ones, of the demo's eight 107, which is 8 ** 0.37 times as many (README, "How fast")."""


def stepd_stages(load: Workload) -> list[StagePrice]:
    """StepD both ways: exact, of all heads, and screened; what both have in common is counted once.

    Where ranking is adaptive, all trials are counted: how early it is stable cannot be known.
    """
    exact = _stages(load, replace(load.score, screen=Screen.none, adaptive=False))
    screened = _stages(load, verifying(load, n_verified(load)))
    common = {stage.name for stage in exact if stage.name.startswith("prompts")}
    for stages, way in ((exact, EXACT), (screened, SCREENED)):
        for stage in stages:
            stage.only = "" if stage.name in common else way
    return [*exact, *(stage for stage in screened if stage.name not in common)]


def _stages(load: Workload, score: ScoreConfig) -> list[StagePrice]:
    pricing = Pricing(load.engine())
    how = Measurement(
        load.lm,
        load.snapshot,
        load.heads,
        pricing.engine,
        score,
        load.seed,
        load.n_mean_trials,
        load.compute.unit_trials or 1,  # a pass each, as workers share them
        load.compute.keep_mb,
    )
    pricing.run(effects_flow(how, StatsConfig()), "StepD")
    return pricing.stages


def n_verified(load: Workload) -> int:
    """Heads that a screened run verifies: as told, or as many as its rankings are likely to choose."""
    every, score, n_rankings = len(load.heads), load.score, len(load.snapshot.qids)
    if load.n_verified is not None:
        return min(every, load.n_verified)
    chosen = fewest_verified(every, score.n_verify, 0) * n_rankings**GROWTH
    return min(every, round(chosen) + score.verify_random)


def verifying(load: Workload, count: int) -> ScoreConfig:
    """Settings under which so many heads are verified, or one fewer, where all rankings are one; a wider choice of
    heads is not counted."""
    score = screened_score(load.score)
    chosen = max(count - score.verify_random, 1)
    # The best, and a share of as many at the low end.
    verify = chosen if count >= len(load.heads) else max(chosen * NEGATIVE_SHARE // (NEGATIVE_SHARE + 1), 1)
    return replace(score, adaptive=False, verify=verify, verify_max=None, k=min(score.k, verify))


def screened_score(score: ScoreConfig) -> ScoreConfig:
    """The settings of a screened run beside an exact one: those of the run, or `gradient`."""
    return score if score.screen is not Screen.none else replace(score, screen=Screen.gradient)
