"""Price of StepD: its flow is run on an engine that only counts operations."""

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
"""Exponent of the number of verified heads: n rankings choose n ** GROWTH times as many as one. Measured on SmolLM2: 50
for one relation, beside the 32 random heads, and 107 for the demo's eight, which is about 8 ** 0.37 times as many
(README, "How fast")."""


def stepd_stages(load: Workload) -> list[StagePrice]:
    """Price StepD both ways, exact (all heads) and screened; work that both ways share is counted once.

    If ranking is adaptive, all trials are counted, since it is not known how early a ranking becomes stable.
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
        load.compute.unit_trials or 1,  # one pass per unit, as workers share them
        load.compute.keep_mb,
    )
    pricing.run(effects_flow(how, StatsConfig()), "StepD")
    return pricing.stages


def n_verified(load: Workload) -> int:
    """Number of heads that a screened run verifies: the given number, or an estimate."""
    every, score, n_rankings = len(load.heads), load.score, len(load.snapshot.qids)
    if load.n_verified is not None:
        return min(every, load.n_verified)
    chosen = fewest_verified(every, score.n_verify, 0) * n_rankings**GROWTH
    return min(every, round(chosen) + score.verify_random)


def verifying(load: Workload, count: int) -> ScoreConfig:
    """Settings under which `count` heads are verified, or one fewer, if all rankings agree.

    Further rounds of verification are not counted.
    """
    score = screened_score(load.score)
    chosen = max(count - score.verify_random, 1)
    # The best heads, and a fraction of that number from the low end.
    verify = chosen if count >= len(load.heads) else max(chosen * NEGATIVE_SHARE // (NEGATIVE_SHARE + 1), 1)
    return replace(score, adaptive=False, verify=verify, verify_max=None, k=min(score.k, verify))


def screened_score(score: ScoreConfig) -> ScoreConfig:
    """Settings of the screened way: the run's own if it is screened, else `gradient`."""
    return score if score.screen is not Screen.none else replace(score, screen=Screen.gradient)
