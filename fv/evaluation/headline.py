"""Headline of an evaluation: each vector's effect, compared with the vector of the same heads over corrupted prompts.

One contrast is declared: log p under the vector minus log p under the vector of corrupted prompts (`DECLARED`). Its
p-values are adjusted over relations; all other numbers are descriptive (docs/methods.md, "Headline").
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy  # loads its submodules, which are slow to import, at their first use

from fv.config import StatsConfig
from fv.evaluation.candidate import NO_VECTOR
from fv.evaluation.tables import ALL, ANSWER_NEW
from fv.seeding import generator_for
from fv.statistics.intervals import expanded_level
from fv.statistics.multiplicity import holm
from fv.tables import TableRow
from fv.vectors.vector import Vector

DECLARED = ("fv", "corrupted_prompts", "logprob")
"""The one contrast that claims may rest on: condition, the condition subtracted from it, metric."""
PAIR = ["fv", "eval_qid"]
LEVELS = {
    "delta_logprob": "delta_logprob",
    "delta_logit_difference": "delta_logit_difference",
    "p": "p",
    "rank": "rank",
}
"""{column of the headline: the metric of the vector's condition that it shows}."""
CONTRASTS = {"minus_corrupted": "logprob", "minus_corrupted_logit_difference": "logit_difference"}
"""{column of the headline: the metric in which the vector of corrupted prompts is subtracted from the vector}."""
ENDS = ("ci_low", "ci_high")


def headline_table(
    trials: pd.DataFrame,
    means: pd.DataFrame,
    contrasts: pd.DataFrame,
    relations: pd.DataFrame,
    vectors: Mapping[str, Vector],
    stats: StatsConfig,
    seed: int,
) -> pd.DataFrame:
    """Main results, one row per (vector, relation): `headline.csv`. Intervals are in `<column>_ci_low` and `_ci_high`.

    Args:
        trials: trial rows of all conditions.
        means: `fv.evaluation.tables.means_table`.
        contrasts: `fv.evaluation.tables.contrasts_table`.
        relations: one row per relation, with its lead metric and the accuracies of the best constant answer and of
            repeating the query.
        vectors: {name: vector}.
        stats: level, resamples and method of intervals.
        seed: the run's seed.

    Returns:
        fv, eval_qid, kind, k, layer, alpha, n. `lead_metric` (top1, or exact_match if first tokens collide) and the
        accuracies in it: before and after injection, of the few-shot prompt, of the best constant answer and of
        repeating the query. `delta_logprob` and `delta_logit_difference` (nats), and both minus those of the vector of
        corrupted prompts. `p` and `rank` of the right answer before and after. `share_of_few_shot`, the fraction of the
        few-shot prompt's gain in log p. `n_answer_new` and `delta_logprob_answer_new`, over trials whose answer no fit
        prompt contains. `n_refits`. `p_value` of the declared contrast, and `p_holm`, adjusted over the relations that
        have a vector of this kind and k.
    """
    own = trials[trials["condition"] == "fv"].drop_duplicates(PAIR)
    levels = _by_key(means[means["subset"] == ALL], ["fv", "eval_qid", "condition", "metric"])
    new = _by_key(means[(means["subset"] == ANSWER_NEW) & (means["condition"] == "fv")], [*PAIR, "metric"])
    minus = contrasts[(contrasts["subset"] == ALL) & (contrasts["condition"] == "fv")]
    differences = _by_key(minus[minus["minus"] == DECLARED[1]], [*PAIR, "metric"])
    of_relation = {row["eval_qid"]: row for row in relations.to_dict("records")}
    shares = few_shot_shares(trials, stats, seed)
    rows = []
    for fv, q_id, layer, alpha in own[[*PAIR, "layer", "alpha"]].sort_values(PAIR).itertuples(index=False):
        about, vector = of_relation[q_id], vectors[fv]
        lead = about["lead_metric"]
        after = levels[fv, q_id, "fv", lead]
        row: TableRow = {"fv": fv, "eval_qid": q_id, "kind": vector.kind, "k": vector.k, "layer": layer}
        row |= {"alpha": alpha, "n": after["n"], "lead_metric": lead}
        row |= {"accuracy_before": _mean(levels, NO_VECTOR, q_id, "zero_shot", lead)}
        row |= _shown("accuracy", after) | {"few_shot_accuracy": _mean(levels, NO_VECTOR, q_id, "few_shot", lead)}
        row |= {name: about[f"{name}_{lead}"] for name in ("constant", "repeat")}
        for column, metric in LEVELS.items():
            row |= _shown(column, levels.get((fv, q_id, "fv", metric)))
        row |= {f"{name}_before": _mean(levels, NO_VECTOR, q_id, "zero_shot", name) for name in ("p", "rank")}
        for column, metric in CONTRASTS.items():
            row |= _shown(column, differences.get((fv, q_id, metric)))
        row |= _shown("share_of_few_shot", shares.get((fv, q_id)))
        unseen = new.get((fv, q_id, "delta_logprob"))
        shown = about["n_answer_shown"]
        row |= {"n_answer_new": after["n"] - shown}
        row |= _shown("delta_logprob_answer_new", levels[fv, q_id, "fv", "delta_logprob"] if not shown else unseen)
        declared = differences.get((fv, q_id, DECLARED[2]))
        n_refits = levels[fv, q_id, "fv", "delta_logprob"]["n_refits"]
        row |= {"n_refits": 0 if pd.isna(n_refits) else int(n_refits), "p_value": _p_value(declared)}
        in_domain = vector.source_qid in (None, q_id)
        rows.append(row | {"family": (vector.kind, vector.k) if in_domain else None})
    table = pd.DataFrame(rows)
    table["p_holm"] = np.nan
    for _, family in table.dropna(subset=["p_value", "family"]).groupby("family"):
        table.loc[family.index, "p_holm"] = holm(family["p_value"].to_numpy())
    return table.drop(columns="family").astype({"layer": "Int64", "k": "Int64"})


def few_shot_shares(trials: pd.DataFrame, stats: StatsConfig, seed: int) -> dict[tuple[str, str], dict[str, float]]:
    """{(vector, relation): the vector's gain in log p as a fraction of the few-shot prompt's, with its interval}.

    This is a ratio of means over the same trials, with a paired bootstrap (`scipy.stats.bootstrap`), widened by the
    spread of refits. A pair is left out if the few-shot prompt's gain is not measurably above zero.
    """
    found = {}
    wide = trials[trials["condition"].isin(["fv", "few_shot", "fv_refit"])]
    for q_id, here in wide.groupby("eval_qid"):
        gain = here[here["condition"] == "few_shot"].set_index("trial_id")["delta_logprob"]
        for fv, rows in here[here["condition"] == "fv"].groupby("fv"):
            effect = rows.set_index("trial_id")["delta_logprob"].reindex(gain.index)
            refits = here[(here["condition"] == "fv_refit") & (here["fv"] == fv)]
            means = refits.groupby("draw")["delta_logprob"].mean().to_numpy()
            if share := _ratio(effect.to_numpy(), gain.to_numpy(), means, stats, seed, str(q_id)):
                found[str(fv), str(q_id)] = share
    return found


def _ratio(
    effect: np.ndarray, gain: np.ndarray, refits: np.ndarray, stats: StatsConfig, seed: int, q_id: str
) -> dict[str, float] | None:
    """Ratio of the means of `effect` and `gain` over the same trials, (n_trials,) each, with its interval.

    `refits` are the means of the effect's refits.
    """
    n = len(gain)
    if n < 3 or gain.mean() <= scipy.stats.t.ppf((1 + stats.confidence) / 2, n - 1) * gain.std(ddof=1) / np.sqrt(n):
        return None
    ratio = float(effect.mean() / gain.mean())
    interval = (ratio, ratio)
    # If the trials' ratios differ by rounding only, the bootstrap is not defined.
    if np.ptp(effect - ratio * gain) > 1e-12 * np.abs(effect).max():
        interval = scipy.stats.bootstrap(
            (effect, gain),
            lambda one, other, axis: one.mean(axis) / other.mean(axis),
            paired=True,
            vectorized=True,
            n_resamples=stats.n_resamples,
            confidence_level=expanded_level(stats.confidence, n),
            method=stats.method.value,
            rng=generator_for(seed, "share_of_few_shot", q_id),
        ).confidence_interval
    half = 0.0
    if len(refits) > 1:
        half = float(scipy.stats.t.ppf((1 + stats.confidence) / 2, len(refits) - 1) * refits.std(ddof=1) / gain.mean())
    low, high = (float(ratio + sign * np.hypot(end - ratio, half)) for sign, end in zip((-1, 1), interval, strict=True))
    return {"mean": ratio, "ci_low": low, "ci_high": high}


def _p_value(found: Mapping[str, Any] | None) -> float:
    """Two-sided p-value of a contrast's mean against zero; NaN if its standard error is missing or zero.

    Student's t with a standard error that includes the spread of refits, and with the degrees of freedom of Welch and
    Satterthwaite.
    """
    if found is None or not found["se"] > 0:
        return float("nan")
    variance, sd = found["se"] ** 2, 0.0 if pd.isna(found["refit_sd"]) else found["refit_sd"]
    parts = [(variance - sd**2, found["n"] - 1)]
    if sd:
        parts.append((sd**2, int(found["n_refits"]) - 1))
    df = variance**2 / sum(part**2 / own for part, own in parts)
    return float(2 * scipy.stats.t.sf(abs(found["mean"]) / np.sqrt(variance), df))


def _by_key(table: pd.DataFrame, key: list[str]) -> dict[tuple[Any, ...], TableRow]:
    """{values of the columns `key`: the row}; of several draws, the first."""
    ordered = table.sort_values("draw") if "draw" in table else table
    found = ordered.drop_duplicates(key)
    rows = ({str(name): value for name, value in row.items()} for row in found.to_dict("records"))
    return {tuple(row[name] for name in key): row for row in rows}


def _mean(levels: Mapping[tuple[Any, ...], Mapping[str, Any]], *key: str) -> float:
    found = levels.get(key)
    return float("nan") if found is None else float(found["mean"])


def _shown(column: str, found: Mapping[str, Any] | None) -> dict[str, float]:
    """Columns of a number and its interval; NaN if there is no number."""
    values = {"": "mean", **{f"_{end}": end for end in ENDS}}
    return {f"{column}{suffix}": np.nan if found is None else found[name] for suffix, name in values.items()}
