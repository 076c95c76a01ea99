"""All relations of a screened run: effects of all heads are estimated, those of the heads that this chooses measured.

All relations have one set of verified heads (`fv.heads.verified`). Where one that only chance put into it enters the
top k of a ranking, twice as many are chosen, and only those that are new are patched.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import Tensor

from fv.config.score import ScoreConfig
from fv.config.score import Screen as Method
from fv.errors import shorten
from fv.heads.indirect_effect import aie_table, cie_table, places_of
from fv.heads.piece import of_each
from fv.heads.ranking import top_heads
from fv.heads.relation_run import Begun, Estimate, RelationRuns, Unit
from fv.heads.screen import Entered, Round, Screen, ScreenSettings
from fv.heads.verified import Chosen, random_in_top, verified_heads
from fv.interventions.engine import Advance, Head, ScreeningEngine
from fv.models.prompt import Prompt
from fv.progress import progress_bar

log = logging.getLogger(__name__)


class Screened(NamedTuple):
    """What was measured of each relation, and how its heads were chosen."""

    units: dict[str, Unit]
    screen: Screen


def estimate_of(engine: ScreeningEngine, score: ScoreConfig) -> Estimate | None:
    """What estimates effects as the settings say; None where all heads are measured.

    Args:
        engine: what patches heads; prompts that it keeps are not run again.
        score: the settings.
    """
    if score.screen is Method.none:
        return None
    method, points = score.screen.value, score.screen_points

    def estimate(prompts: Sequence[Prompt], values: Tensor, advance: Advance) -> Tensor:
        return engine.head_scores(prompts, values, method, points, advance)

    return estimate


def screened(runs: RelationRuns, estimate: Estimate, name: str) -> Screened:
    """Estimate, choose and measure, wider as long as chance finds a head that the estimates did not.

    Args:
        runs: of all heads that may be chosen.
        estimate: what estimates effects.
        name: of the progress bar.
    """
    begun = _begun(runs, name)
    # Both estimates and effects need the corrupted prompts run; clean ones are not asked for again.
    with runs.engine.keeping(runs.keep_mb * 2**20):
        return _chosen(runs, begun, _estimated(runs, begun, estimate, name), name)


def _chosen(runs: RelationRuns, begun: Mapping[str, Begun], scores: Mapping[str, np.ndarray], name: str) -> Screened:
    """Choose heads and measure them, wider as long as chance finds one."""
    score, every = runs.score, len(runs.heads)
    verify, most = score.n_verify, score.verify_max or every
    units: dict[str, Unit] = {}
    rounds: list[Round] = []
    while True:
        verified = verified_heads(scores, verify, score.verify_random, runs.seed)
        log.info("Screened by %s: %d of %d heads are verified.", score.screen.value, len(verified), every)
        units = _measured(runs, begun, units, list(verified), name)
        entered = _entered(units, verified, score)
        rounds.append(Round(verify, len(verified), tuple(entered)))
        if not entered or len(verified) == every:
            break
        heads = shorten([f"{one.layer}.{one.head} of {one.q_id or 'the AIE'}" for one in entered])
        if verify >= most:
            log.warning("Heads verified by chance are among the top %d (%s): others may be missed.", score.k, heads)
            break
        verify = min(2 * verify, most)
        log.info("Heads verified by chance are among the top %d (%s): verifying the best %d.", score.k, heads, verify)
    return Screened(units, Screen(_settings(score), scores, verified, tuple(rounds)))


def _settings(score: ScoreConfig) -> ScreenSettings:
    counts = (score.n_verify, score.verify_random, score.verify_max)
    return ScreenSettings(score.screen.value, score.points, score.key.value, score.k, *counts)


def _begun(runs: RelationRuns, name: str) -> dict[str, Begun]:
    """The first stage of each relation."""
    with progress_bar(f"{name}, clean prompts", len(runs.snapshot.qids)) as (advance, rename):

        def begin(q_id: str) -> Begun:
            rename(q_id)
            found = runs.begin(q_id)
            advance(1)
            return found

        return of_each(runs.snapshot.qids, begin)


def _estimated(runs: RelationRuns, begun: Mapping[str, Begun], estimate: Estimate, name: str) -> dict[str, np.ndarray]:
    """Each relation's mean estimates, (n_layers, n_heads): NaN for heads that may not be chosen."""
    layers, heads = places_of(runs.heads)
    with progress_bar(f"{name}, screening", runs.n_patched) as (advance, rename):
        shown = replace(runs, advance=advance)

        def estimated(q_id: str) -> np.ndarray:
            rename(q_id)
            mean = shown.estimates(begun[q_id], estimate).mean(0)
            scores = np.full_like(mean, np.nan)
            scores[layers, heads] = mean[layers, heads]
            return scores

        return of_each(begun, estimated)


def _measured(
    runs: RelationRuns, begun: Mapping[str, Begun], units: Mapping[str, Unit], heads: Sequence[Head], name: str
) -> dict[str, Unit]:
    """Units with effects of the heads: those that they lack are patched."""
    swept = next(iter(units.values())).effects.swept if units else np.zeros((runs.lm.n_layers, runs.lm.n_heads), bool)
    new = [head for head in heads if not swept[head]]
    if not new:
        return dict(units)
    with progress_bar(f"{name}, verifying", runs.n_patched) as (advance, rename):
        shown = replace(runs, heads=new, advance=advance)

        def measured(q_id: str) -> Unit:
            rename(q_id)
            found = shown.sweep_more(begun[q_id], units[q_id]) if units else shown.sweep(begun[q_id])
            log.info("%s: %s", q_id, found.progress)
            return found

        return of_each(begun, measured)


def _entered(units: Mapping[str, Unit], verified: Mapping[Head, Chosen], score: ScoreConfig) -> list[Entered]:
    """Heads verified by chance that are among the top k of a relation's ranking, or of the AIE's."""
    tables: dict[str | None, pd.DataFrame] = {q_id: cie_table(q_id, unit.effects) for q_id, unit in units.items()}
    tables[None] = aie_table(pd.concat([*tables.values()]))
    k = min(score.k, len(verified))
    return [
        Entered(q_id, *head)
        for q_id, table in tables.items()
        for head in random_in_top(verified, top_heads(table, score.key.value, k))
    ]
