"""How far a screen can be trusted, from the heads that were verified (docs/methods.md, "Screening")."""

from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are loaded when they are first used, which takes a while

from fv.config import StatsConfig
from fv.heads.indirect_effect import aie_table
from fv.heads.ranking import top_heads
from fv.heads.screen import Screen
from fv.heads.verified import Chosen, random_in_top
from fv.interventions.engine import Head
from fv.statistics.intervals import clopper_pearson

NOT_SAID = (
    "The bound is on the share of the unverified heads that would be in the top k; it does not say that none would. "
    "A small sample rarely meets a few heads among many. Each ranking has a bound of its own, and they do not hold "
    "together. Where the run was widened, that was done until no random head was in a top k, so the bound is of a "
    "sample that was looked at before. It says nothing of heads that matter only together."
)


def screen_report(screen: Screen, cie: pd.DataFrame, stats: StatsConfig) -> dict[str, Any]:
    """Settings, rounds, and for each ranking how estimates and effects agree, as JSON: `screen_report.json`.

    Of a ranking: `spearman` between estimate and effect over the verified heads, `spearman_random` over those that
    were verified by chance alone, each None where one side ranks nothing; `n_random` of those heads, `n_random_in_top`
    of them among the top k, and `share_missed_at_most`, the upper end of the Clopper-Pearson interval of the share of
    the unverified heads that would be; None without random heads, and 0 where no head is unverified.

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


def _agreement(screen: Screen, q_id: str | None, effects: pd.DataFrame, stats: StatsConfig) -> dict[str, Any]:
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
    """Rank correlation; None where one side ranks nothing."""
    if len(one) < 2 or not np.ptp(one) or not np.ptp(other):
        return None
    return float(scipy.stats.spearmanr(one, other).statistic)
