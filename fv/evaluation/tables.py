"""Tables of chosen injections, controls and baselines on test trials (docs/methods.md).

All tables are computed from trial rows alone, one row per (fv, relation, condition, draw, trial): the same rows give
the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from fv.config import StatsConfig
from fv.data.prompt_kinds import CLEAN, ZERO_SHOT
from fv.evaluation.candidate import NO_VECTOR, UNEDITED
from fv.evaluation.refits import minus_refits, refit_means, widened
from fv.statistics.grouped import grouped_means
from fv.statistics.intervals import Kind

KEY = ["fv", "eval_qid", "condition"]
MEANS_KEY = [*KEY, "draw", "subset"]
CONTRASTS_KEY = [*KEY, "minus", "subset"]
WHERE = ["layer", "alpha", "norm", "relative_norm", "of", "compared_with", "all_draws", "refit_of"]
"""Columns of a condition's cell and ingredients."""
ALL, FEW_SHOT_CORRECT, ANSWER_NEW = "all", "few_shot_correct", "answer_new"
LEVELS = {
    **dict.fromkeys(("logprob", "p", "rank", "logit_difference", "answer_logprob"), Kind.mean),
    **dict.fromkeys(("top1", "top3", "top5", "candidate_accuracy", "exact_match"), Kind.proportion),
}
"""{metric of a condition alone: the kind of its mean}."""
CHANGES = {
    "delta_logprob": Kind.mean,
    "delta_logit_difference": Kind.mean,
    "delta_p": Kind.mean,
    "delta_answer_logprob": Kind.mean,
    "delta_top1": Kind.proportion_difference,
    "worse": Kind.proportion,
}
"""{metric of a condition relative to its reference: the kind of its mean}; the mean of `worse` is the harm rate."""
CONTRASTED = {
    "logprob": Kind.mean,
    "logit_difference": Kind.mean,
    "p": Kind.mean,
    "rank": Kind.mean,
    "answer_logprob": Kind.mean,
    **dict.fromkeys(("top1", "candidate_accuracy", "exact_match"), Kind.proportion_difference),
}
"""{metric in which two conditions are compared trial by trial: the kind of its mean}."""
FLAGS = ["few_shot_correct", "answer_shown"]
"""Columns of a trial row that describe its trial."""


def rated_rows(scored: pd.DataFrame, reference: pd.DataFrame | None) -> pd.DataFrame:
    """Add the metrics to trial rows of conditions.

    Args:
        scored: one row per (condition, trial): the condition's columns, and the scores (`fv.interventions.answers`).
        reference: for each row, the row of the unedited condition on the same trial; None if there is no reference.
    """
    rows = scored.copy()
    rows["p"] = np.exp(rows["logprob"])
    for n in (1, 3, 5):
        rows[f"top{n}"] = (rows["rank"] < n).astype(float)
    rows["candidate_accuracy"] = (rows["logit_difference"] > 0).astype(float).where(rows["logit_difference"].notna())
    rows["exact_match"] = rows["exact_match"].astype(float)
    for change in ("logprob", "logit_difference", "p", "top1", "answer_logprob"):
        rows[f"delta_{change}"] = np.nan if reference is None else rows[change] - reference[change].to_numpy()
    rows["worse"] = np.nan if reference is None else (rows["delta_logprob"] < 0).astype(float)
    return rows


def rated(scores: pd.DataFrame, trial_ids: Sequence[str], shown: Mapping[str, bool]) -> pd.DataFrame:
    """Build the trial rows of a relation's conditions from their scores.

    An edited prompt is compared with the same prompt unedited, and an unedited prompt with the zero-shot prompt.

    Args:
        scores: one row per (condition, trial): the condition's columns, its kind of `prompt`, the number of the
            `trial`, and the answers' scores.
        trial_ids: the trials, in order of their numbers.
        shown: {trial_id: whether a fit prompt contains its right answer}.
    """
    named = scores.assign(trial_id=scores["trial"].map(pd.Series(list(trial_ids))))
    unedited = rated_rows(named[named["condition"].isin(list(UNEDITED))], None).set_index(["prompt", "trial"])
    changes = named[named["condition"] != "zero_shot"]
    prompts = changes["prompt"].where(~changes["condition"].isin(list(UNEDITED)), ZERO_SHOT)
    changed = rated_rows(changes, unedited.loc[pd.MultiIndex.from_arrays([prompts, changes["trial"]])])
    rows = pd.concat([rated_rows(named[named["condition"] == "zero_shot"], None), changed]).sort_index()
    right = unedited.loc[CLEAN]["top1"] == 1
    flags = {"few_shot_correct": rows["trial"].map(right), "answer_shown": rows["trial_id"].map(dict(shown))}
    return rows.assign(**flags).drop(columns=["trial", "prompt"])


def in_subsets(rows: pd.DataFrame) -> pd.DataFrame:
    """Repeat the rows by subset of trials, named in the column `subset`.

    The subsets: all trials; the trials that the few-shot prompt answers correctly; and the trials whose answer no fit
    prompt contains. In the second, condition `few_shot` is right by construction, so contrasts with its accuracy mean
    nothing. The third is left out if it contains all trials.
    """
    parts = [rows.assign(subset=ALL), rows[rows["few_shot_correct"]].assign(subset=FEW_SHOT_CORRECT)]
    some_shown = rows.groupby("eval_qid")["answer_shown"].transform("any").astype(bool)
    new = rows[some_shown & ~rows["answer_shown"].astype(bool)]
    return pd.concat([*parts, new.assign(subset=ANSWER_NEW)], ignore_index=True)


def means_table(rows: pd.DataFrame, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Mean of every metric of every condition and draw, with its interval: `held_out.csv`.

    The intervals of a condition with refits include their spread (`n_refits`, `refit_sd`).
    """
    columns, own = {**LEVELS, **CHANGES}, in_subsets(rows)
    means = grouped_means(own, MEANS_KEY, columns, "trial_id", stats, seed)
    on = [*KEY, "subset", "metric"]
    return widened(means, refit_means(own, on, list(columns)), on, columns, stats)


def contrasts_table(
    rows: pd.DataFrame, contrasts: Iterable[tuple[str, str]], stats: StatsConfig, seed: int
) -> pd.DataFrame:
    """Effect minus control, with its interval over trials, control draws and refits: `contrasts.csv`.

    `n_draws`, `draw_sd`, `draw_min` and `draw_max` describe how the difference varies between draws of the control.
    `n_refits` and `refit_sd` describe how it varies between refits of the effect, and of the control if it has refits.
    Arguments as in `means_table` and `contrast_rows`.
    """
    differences = in_subsets(contrast_rows(rows, contrasts))
    found = grouped_means(differences, CONTRASTS_KEY, CONTRASTED, "trial_id", stats, seed, draw="draw")
    refits = refit_means(in_subsets(rows), [*KEY, "subset", "metric"], list(CONTRASTED))
    on = [*CONTRASTS_KEY, "metric"]
    return widened(found, minus_refits(found[on], refits), on, CONTRASTED, stats)


def contrast_rows(
    rows: pd.DataFrame, contrasts: Iterable[tuple[str, str]], metrics: Iterable[str] = CONTRASTED
) -> pd.DataFrame:
    """Differences trial by trial, one row per (fv, relation, condition, minus, trial, draw of the control).

    Args:
        rows: trial rows.
        contrasts: the comparisons: (condition, the condition subtracted from it). A comparison is left out if one of
            its conditions has no rows.
        metrics: the metrics in which they are compared.
    """
    compared = [*metrics]
    # `compared_with` is the vector whose controls a row is compared with: its own, unless the rows name another.
    values = rows.assign(compared_with=rows["compared_with"].where(rows["compared_with"].notna(), rows["fv"]))
    values = values[[*KEY, "compared_with", "draw", "all_draws", "trial_id", *FLAGS, *compared]]
    tables = []
    for condition, other in sorted(contrasts):
        own = values[values["condition"] == condition].drop(columns=["draw", "all_draws"])
        control = values[values["condition"] == other]
        # A baseline belongs to no vector, so every vector on its relation is compared with it.
        shared = bool((control["fv"] == NO_VECTOR).all())
        on = ["eval_qid", "trial_id"] if shared else ["compared_with", "eval_qid", "trial_id"]
        control = control.drop(columns="compared_with").rename(columns={"fv": "compared_with"})
        paired = own.merge(control[[*on, "draw", "all_draws", *compared]], on=on, suffixes=("", "_other"))
        for metric in compared:
            paired[metric] -= paired[f"{metric}_other"]
        tables.append(paired.assign(minus=other))
    columns = [*KEY, "minus", "trial_id", "draw", "all_draws", *FLAGS, *compared]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def cost_table(costs: pd.DataFrame, trials: pd.DataFrame, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Mean KL divergence on unrelated texts of every condition and draw, with its interval: `injection_cost.csv`.

    Args:
        costs: `fv.evaluation.cost.injection_cost` of all relations.
        trials: trial rows of the same conditions, from which their cells and ingredients are taken.
        stats: level, resamples and method of intervals.
        seed: the run's seed.
    """
    means = grouped_means(costs, [*KEY, "draw"], {"kl": Kind.mean}, "text", stats, seed)
    return means.merge(where_of(trials), on=[*KEY, "draw"])


def where_of(trials: pd.DataFrame) -> pd.DataFrame:
    """Each condition and draw in trial rows, with the columns `WHERE`."""
    return trials.drop_duplicates([*KEY, "draw"])[[*KEY, "draw", *WHERE]].astype({"layer": "Int64"})
