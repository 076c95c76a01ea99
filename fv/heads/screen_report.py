"""Report on how well a screen's estimates agree with the measured effects (docs/methods.md, "Screening")."""

from typing import TypedDict

import numpy as np
import pandas as pd
import scipy  # loads its submodules, which are slow to import, at their first use

from fv.config import StatsConfig
from fv.heads.indirect_effect import aie_table
from fv.heads.ranking import top_heads
from fv.heads.screen import Screen, ScreenAbout
from fv.heads.verification import Chosen, random_in_top
from fv.interventions.engine import Head
from fv.statistics.intervals import clopper_pearson

NOT_SAID = (
    "The bound limits the share of unverified heads that belong in the top k; it does not say that there are none. "
    "A small sample rarely contains a few heads among many. Each ranking has its own bound, and they do not hold "
    "jointly. A run that verified more heads did so until no random head was in a top k, so its bound is computed on a "
    "sample that had been inspected. Nothing follows about heads that matter only together."
)


class Agreement(TypedDict):
    """Agreement of estimates and effects in one ranking.

    Attributes:
        spearman: rank correlation of estimate and effect over the verified heads; None if either is constant.
        spearman_random: the same over the randomly verified heads.
        n_random: number of randomly verified heads.
        n_random_in_top: how many of them are among the top k.
        share_missed_at_most: upper end of the Clopper-Pearson interval for the share of unverified heads that belong
            in the top k; None without random heads, 0 if every head is verified.
    """

    spearman: float | None
    spearman_random: float | None
    n_random: int
    n_random_in_top: int
    share_missed_at_most: float | None


# A class cannot have a field called `global`.
_Agreements = TypedDict("_Agreements", {"global": Agreement, "per_qid": dict[str, Agreement]})


class ScreenReport(ScreenAbout, _Agreements):
    """A screen, and its agreement with the effects in the AIE's ranking and each relation's: `screen_report.json`.

    Attributes:
        n_heads: number of screened heads.
        n_verified: numbers of verified heads: all, and for each reason.
        confidence: the level of the intervals.
        what_the_bound_does_not_say: limits of `share_missed_at_most`.
    """

    n_heads: int
    n_verified: dict[str, int]
    confidence: float
    what_the_bound_does_not_say: str


def screen_report(screen: Screen, cie: pd.DataFrame, stats: StatsConfig) -> ScreenReport:
    """Settings, rounds, and agreement of estimates and effects per ranking.

    Args:
        screen: the estimates and the verified heads.
        cie: the effects, `fv.heads.indirect_effect.cie_table` of all relations.
        stats: the level of the interval.
    """
    of_each = {q_id: _agreement(screen, q_id, cie[cie["q_id"] == q_id], stats) for q_id in screen.scores}
    return {
        **screen.about(),
        "n_heads": len(screen.candidates),
        "n_verified": {"all": len(screen.verified), **_counts(screen)},
        "confidence": stats.confidence,
        "global": _agreement(screen, None, aie_table(cie), stats),
        "per_qid": of_each,
        "what_the_bound_does_not_say": NOT_SAID,
    }


def _counts(screen: Screen) -> dict[str, int]:
    reasons = [*screen.verified.values()]
    return {reason.value: reasons.count(reason) for reason in Chosen}


def _agreement(screen: Screen, q_id: str | None, effects: pd.DataFrame, stats: StatsConfig) -> Agreement:
    settings, score = screen.settings, screen.score_of(q_id)
    estimated = score[effects["layer"], effects["head"]]
    measured = effects[settings.key].to_numpy()
    heads = [Head(layer, head) for layer, head in effects[["layer", "head"]].to_numpy().tolist()]
    by_chance = np.array([screen.verified[head] is Chosen.random for head in heads])
    n_random = int(by_chance.sum())
    entered = random_in_top(screen.verified, top_heads(effects, settings.key, min(settings.k, len(effects))))
    return {
        "spearman": _spearman(estimated, measured),
        "spearman_random": _spearman(estimated[by_chance], measured[by_chance]),
        "n_random": n_random,
        "n_random_in_top": len(entered),
        "share_missed_at_most": _most_missed(screen, len(entered), n_random, stats.confidence),
    }


def _most_missed(screen: Screen, n_entered: int, n_random: int, confidence: float) -> float | None:
    if not screen.unverified:
        return 0.0
    if not n_random:
        return None
    return float(clopper_pearson(np.array([n_entered]), n_random, confidence)[1][0])


def _spearman(one: np.ndarray, other: np.ndarray) -> float | None:
    """Spearman's rank correlation; None if one side is constant."""
    if len(one) < 2 or not np.ptp(one) or not np.ptp(other):
        return None
    return float(scipy.stats.spearmanr(one, other).statistic)
