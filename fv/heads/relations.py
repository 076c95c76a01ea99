"""Indirect effects of all relations: their measurement, one relation after the other, and their tables."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fv.config import ScoreConfig, Screen, StatsConfig
from fv.config.checks import parse_indices
from fv.data.origin import Origin
from fv.data.snapshot import Snapshot
from fv.data.trials import Trials
from fv.errors import ConfigError, TrialError, one_of
from fv.heads.effects import Effects
from fv.heads.indirect_effect import aie_stats, cie_stats
from fv.heads.measurement import Measured, Measurement
from fv.heads.ranking import heads_to_sweep
from fv.heads.screening import screened
from fv.heads.stability import with_other_halves
from fv.interventions.compute import DEFAULT, Compute, checked_compute
from fv.models.language_model import LanguageModel
from fv.progress import bars
from fv.tables import TableRow
from fv.work.driver import SERIAL
from fv.work.flow import Flow, together


def indirect_effects(  # noqa: PLR0913 - each is a choice of its own
    lm: LanguageModel,
    trials: Trials,
    *,
    layers: str | int | Sequence[int] = "all",
    heads: str | int | Sequence[int] = "all",
    n_trials: int | None = None,
    screen: str = "none",
    verify: int | None = None,
    verify_random: int = ScoreConfig.verify_random,
    seed: int | None = None,
    compute: Compute = DEFAULT,
) -> Effects:
    """Measure the indirect effect of heads on every relation, exactly (spec section 2).

    In a relation's corrupted prompts, a head's output at the last token is replaced by its mean over the clean prompts.
    Its effect is the resulting change in the log probability of the right answer, averaged over trials (CIE). After
    Todd et al., "Function Vectors in Large Language Models" (ICLR 2024), section 3.1.

    Args:
        lm: the model.
        trials: trials from `fv.sample_trials`; the fit trials are used.
        layers: `all`, one layer, or a list of layers, whose heads are measured.
        heads: `all`, one head, or a list of heads, in each of these layers.
        n_trials: trials per relation in which heads are patched; None for all fit trials. Means are always over all fit
            trials.
        screen: `none` measures all heads. `gradient` and `integrated` estimate all effects from gradients, then measure
            exactly only the heads with the best estimates; the other heads have no effects (docs/methods.md,
            "Screening").
        verify: number of heads measured from the top of each relation's ranking by estimate, and of the ranking by mean
            estimate; None for 40. It is doubled as long as a randomly drawn head is among the top 10 by effect (among
            the top `verify` if that is smaller).
        verify_random: number of other heads measured, drawn at random.
        seed: seed of the resamples of intervals and of the drawn heads; None for the seed of `trials`.
        compute: engine, memory and progress bars.

    Returns:
        effects and means of every relation.

    Raises:
        ConfigError: the model lacks a given layer, head or engine, or another argument is out of range.
        TrialError: `trials` are not trials, hold no fit trial, or were tokenised by another tokenizer.
        NotFiniteError: the model's output for a prompt is not finite; the message names the prompt and the number
            format.

    Example:
        >>> effects = fv.indirect_effects(lm, trials, layers=[11, 12])
        >>> effects["antonym"].table.shape
        (18, 6)
    """
    snapshot = snapshot_for(lm, trials)
    if n_trials is not None and (not isinstance(n_trials, int) or n_trials < 1):
        raise ConfigError(f"n_trials={n_trials!r} must be a whole number of 1 or more, or None for all fit trials.")
    swept = heads_to_sweep(parse_indices("layers", layers), parse_indices("heads", heads), lm.n_layers, lm.n_heads)
    own_seed = snapshot.meta.seed if seed is None else seed
    score = _score_settings(n_trials, screen, verify, verify_random)
    engine = checked_compute(compute).engine_for(lm)
    how = Measurement(lm, snapshot, swept, engine, score, own_seed, keep_mb=compute.keep_mb)
    with bars(compute.progress):
        return SERIAL.run(effects_flow(how, StatsConfig()), "Effects")


def _score_settings(n_trials: int | None, screen: str, verify: int | None, verify_random: int) -> ScoreConfig:
    """Check the settings of a screen under the names that they have in a call."""
    method = one_of("screen", screen, Screen)
    if verify is not None and (not isinstance(verify, int) or verify < 1):
        raise ConfigError(f"verify={verify!r} must be a whole number of 1 or more, or None for 40.")
    if not isinstance(verify_random, int) or verify_random < 0:
        raise ConfigError(f"verify_random={verify_random!r} must be a whole number of 0 or more.")
    k = ScoreConfig.k if verify is None else min(ScoreConfig.k, verify)
    return ScoreConfig(n_trials=n_trials, screen=method, verify=verify, verify_random=verify_random, k=k)


def effects_flow(how: Measurement, stats: StatsConfig) -> Flow[Effects]:
    """Measure the relations of a snapshot: all heads, or the heads that a screen chooses (`how.score`)."""
    screen = None
    if how.score.screen is Screen.none:
        relations = yield from together({q_id: how.relation(q_id) for q_id in how.snapshot.qids})
    else:
        relations, screen = yield from screened(how)
    effects = {q_id: own.effects for q_id, own in relations.items()}
    means = {q_id: own.means for q_id, own in relations.items()}
    origin = Origin.of(how.lm, how.snapshot)
    prompts, clusters = prompt_scores(how.snapshot, relations), how.snapshot.meta.clusters
    return Effects(effects, means, origin, prompts, how.seed, stats, screen, clusters)


def snapshot_for(lm: LanguageModel, trials: Any, split: str = "fit") -> Snapshot:
    """Snapshot of the trials, if this model can be run on them.

    Raises:
        TrialError: `trials` are not trials, hold none of the split, or were tokenised by another tokenizer.
    """
    if not isinstance(trials, Trials):
        raise TrialError(f"trials is a {type(trials).__name__}; pass the trials that fv.sample_trials returns.")
    snapshot = trials.snapshot
    if not any(trial.split == split for trial in snapshot.trials):
        held_out = "held_out=… of fv.sample_trials is 1 or more"
        raise TrialError(f"trials hold no {split} trials; sample some{f': {held_out}' if split == 'eval' else ''}.")
    snapshot.meta.refuse_other_tokenizer(lm)
    return snapshot


class EffectTables(NamedTuple):
    """Tables of effects (`fv.heads.indirect_effect`), each named like its CSV file.

    Attributes:
        cie_scores: `cie_table` of all relations.
        aie_scores: `aie_table`.
        cie_stats: `cie_stats`, with `other_half_mean` (`fv.heads.stability`).
        aie_stats: `aie_stats`.
    """

    cie_scores: pd.DataFrame
    aie_scores: pd.DataFrame
    cie_stats: pd.DataFrame
    aie_stats: pd.DataFrame


def effect_tables(effects: Effects) -> EffectTables:
    """Build the tables of measured effects."""
    cie, stats, seed, n_tests = effects.cie, effects.stats, effects.seed, effects.n_tests
    of_each = with_other_halves(cie_stats(effects.effects, stats, seed, n_tests), effects.effects, seed)
    over_all = aie_stats(cie, stats, seed, effects.clusters, n_tests)
    return EffectTables(cie, effects.mean().table, of_each, over_all)


def prompt_scores(snapshot: Snapshot, relations: Mapping[str, Measured]) -> pd.DataFrame:
    """Scores of each fit trial's clean, corrupted and zero-shot prompts, one row per trial (`trial_metrics.jsonl`)."""
    rows = []
    for q_id, own in relations.items():
        for i, trial in enumerate(snapshot.of(q_id, "fit")):
            row: TableRow = {"trial_id": trial.trial_id, "q_id": q_id, "split": trial.split}
            for kind, scores in own.metrics.items():
                row[f"{kind}_logprob"] = float(scores.logprob[i])
                row[f"{kind}_p"] = float(scores.p[i])
                row[f"{kind}_rank"] = int(scores.rank[i])
                row[f"{kind}_correct"] = bool(scores.correct[i])
                row[f"{kind}_tied"] = bool(scores.tied[i])
            rows.append(row)
    return pd.DataFrame(rows)
