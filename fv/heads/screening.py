"""Screening: estimate the effects of all heads, choose heads by the estimates, and measure those.

All relations share one set of verified heads (`fv.heads.verification`). If a randomly chosen head enters the top k of a
ranking, twice as many heads are chosen, and only the new ones are patched.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv.config.score import ScoreConfig
from fv.errors import shorten
from fv.heads.indirect_effect import aie_table, cie_table, places_of
from fv.heads.measurement import Measured, Measurement, Unpatched
from fv.heads.ranking import top_heads
from fv.heads.screen import Entered, Round, Screen, ScreenSettings
from fv.heads.verification import Chosen, random_in_top, verified_heads
from fv.interventions.engine import Head
from fv.work.flow import Flow, together

log = logging.getLogger(__name__)


class Screened(NamedTuple):
    """Results of each relation, and the screen that chose the heads."""

    relations: dict[str, Measured]
    screen: Screen


def screened(how: Measurement) -> Flow[Screened]:
    """Estimate effects, choose heads and measure them; choose more while a random head enters a top k."""
    unpatched = yield from together({q_id: how.unpatched(q_id) for q_id in how.snapshot.qids})
    # Estimates and effects both run the corrupted prompts; clean prompts are not run again.
    with how.engine.keeping(how.keep_mb * 2**20):
        estimates = yield from together({q_id: how.estimated(own) for q_id, own in unpatched.items()})
        scores = {q_id: _of_swept(how.heads, own.mean(0)) for q_id, own in estimates.items()}
        return (yield from _verified(how, unpatched, scores))


def _of_swept(heads: Sequence[Head], mean: np.ndarray) -> np.ndarray:
    """Mean estimates, (n_layers, n_heads), with NaN for heads that are excluded from the sweep."""
    layers, numbers = places_of(heads)
    scores = np.full_like(mean, np.nan)
    scores[layers, numbers] = mean[layers, numbers]
    return scores


def _verified(how: Measurement, unpatched: Mapping[str, Unpatched], scores: Mapping[str, np.ndarray]) -> Flow[Screened]:
    """Choose heads and measure them; choose more while a random head enters a top k."""
    score, every = how.score, len(how.heads)
    verify, most = score.n_verify, score.verify_max or every
    relations: dict[str, Measured] = {}
    rounds: list[Round] = []
    while True:
        verified = verified_heads(scores, verify, score.verify_random, how.seed)
        log.info("Screened by %s: %d of %d heads are verified.", score.screen.value, len(verified), every)
        relations = yield from _measured(how, unpatched, relations, list(verified))
        entered = _entered(relations, verified, score)
        rounds.append(Round(verify, len(verified), tuple(entered)))
        if not entered or len(verified) == every:
            break
        heads = shorten([f"{one.layer}.{one.head} of {one.q_id or 'the AIE'}" for one in entered])
        if verify >= most:
            log.warning("Randomly verified heads are among the top %d (%s): others may be missed.", score.k, heads)
            break
        verify = min(2 * verify, most)
        log.info("Randomly verified heads are among the top %d (%s): verifying the best %d.", score.k, heads, verify)
    return Screened(relations, Screen(_settings(score), scores, verified, tuple(rounds)))


def _settings(score: ScoreConfig) -> ScreenSettings:
    counts = (score.n_verify, score.verify_random, score.verify_max)
    return ScreenSettings(score.screen.value, score.points, score.key.value, score.k, *counts)


def _measured(
    how: Measurement, unpatched: Mapping[str, Unpatched], before: Mapping[str, Measured], heads: Sequence[Head]
) -> Flow[dict[str, Measured]]:
    """Results of all relations for these heads; only heads that were not measured before are patched."""
    swept = next(iter(before.values())).effects.swept if before else np.zeros((how.lm.n_layers, how.lm.n_heads), bool)
    new = replace(how, heads=[head for head in heads if not swept[head]])
    if not new.heads:
        return dict(before)
    return (
        yield from together(
            {
                q_id: new.patched_more(own, before[q_id]) if before else new.patched(own)
                for q_id, own in unpatched.items()
            }
        )
    )


def _entered(relations: Mapping[str, Measured], verified: Mapping[Head, Chosen], score: ScoreConfig) -> list[Entered]:
    """Randomly verified heads that are among the top k of a relation's ranking, or of the AIE's."""
    tables: dict[str | None, pd.DataFrame] = {q_id: cie_table(q_id, own.effects) for q_id, own in relations.items()}
    tables[None] = aie_table(pd.concat([*tables.values()]))
    k = min(score.k, len(verified))
    return [
        Entered(q_id, *head)
        for q_id, table in tables.items()
        for head in random_in_top(verified, top_heads(table, score.key.value, k))
    ]
