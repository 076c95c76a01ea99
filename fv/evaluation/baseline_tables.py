"""Tables of baselines: means, differences and costs of every maker, from trial rows alone (docs/methods.md)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from fv.config import StatsConfig
from fv.data.snapshot import Snapshot
from fv.evaluation.tables import ALL, CHANGES, CONTRASTED, LEVELS, contrast_rows, in_subsets
from fv.statistics.clusters import clusters_of, per_cluster
from fv.statistics.grouped import grouped_means
from fv.statistics.intervals import INTERVAL, Kind, estimate_means
from fv.tables import Tables
from fv.vectors.maker import Maker
from fv.vectors.makers import REFERENCE

OVERALL = ""
"""Value of `eval_qid` for the mean over relations."""
KEY = ["eval_qid", "condition", "choice"]
D_NTP = "d_ntp"
KL = "kl"
LEVEL_KINDS = {**LEVELS, **CHANGES, D_NTP: Kind.mean}
DIFFERENCE_KINDS = {**CONTRASTED, D_NTP: Kind.mean}
SHOWN = {
    "delta_logprob": "delta_logprob",
    "top1": "accuracy",
    "exact_match": "exact_match",
    "delta_answer_logprob": "delta_answer_logprob",
    D_NTP: D_NTP,
    "worse": "harm_rate",
}
"""{metric: its column in the closing table}."""


class MakerNotes(NamedTuple):
    """What tables say of a maker: its label, its source, and whether it is trained."""

    label: str
    source: str
    trains: bool


def notes_of(makers: Mapping[str, Maker]) -> dict[str, MakerNotes]:
    """{maker: what tables say of it}."""
    return {name: MakerNotes(own.label, own.source, own.trains) for name, own in makers.items()}


def baseline_tables(
    found: Tables,
    notes: Mapping[str, MakerNotes],
    snapshot: Snapshot,
    stats: StatsConfig,
    seed: int,
) -> Tables:
    """Build all tables from the rows of `fv.evaluation.baselines.Baselines.flow`.

    Args:
        found: the rows.
        notes: {maker: what tables say of it}.
        snapshot: the trials.
        stats: level, resamples and method of intervals.
        seed: the run's seed.

    Returns:
        `baseline_means`: one row per (relation, condition, choice, subset, metric). `baseline_contrasts`: the same with
        `minus`, the reference or `few_shot`, paired by trial. `baselines`: one row per (relation, maker, choice), with
        the main metrics; the rows with an empty `eval_qid` are means over relations.
    """
    trials, costs, choices, clusters = found["trials"], found["costs"], found["choices"], snapshot.meta.clusters
    n_fit = {q_id: len(snapshot.of(q_id, "fit")) for q_id in snapshot.qids}
    means, contrasts = [], []
    for choice, rows in trials.groupby("choice", sort=False):
        own = in_subsets(rows.drop(columns="choice"))
        by = ["eval_qid", "condition", "subset"]
        means.append(grouped_means(own, by, LEVEL_KINDS, "trial_id", stats, seed).assign(choice=choice))
        pairs = [(name, minus) for name in notes for minus in (REFERENCE, "few_shot") if name != minus]
        differences = in_subsets(contrast_rows(rows.drop(columns="choice"), pairs, DIFFERENCE_KINDS))
        by = ["eval_qid", "condition", "minus", "subset"]
        contrasts.append(
            grouped_means(differences, by, DIFFERENCE_KINDS, "trial_id", stats, seed).assign(choice=choice)
        )
    kl = grouped_means(costs, KEY, {KL: Kind.mean}, "text", stats, seed)
    tables = {
        "baseline_means": _over_relations(pd.concat([*means, kl.assign(subset=ALL)]), stats, seed, clusters),
        "baseline_contrasts": _over_relations(pd.concat(contrasts), stats, seed, clusters),
    }
    return {"baselines": closing_table(tables, choices, notes, n_fit), **tables}


def closing_table(
    tables: Tables, choices: pd.DataFrame, notes: Mapping[str, MakerNotes], n_fit: Mapping[str, int]
) -> pd.DataFrame:
    """The main metrics of every maker, one row per (relation, maker, choice) and one for the mean over relations.

    Columns: `eval_qid`, `condition`, `choice`, `label`, `source`, `trains`, `n_fit_trials`, `n_options`, `n_fitted`,
    `layer`, `alpha`; each of `SHOWN`, and `kl`, with its interval; `minus_reference` and `minus_few_shot`, the
    differences of log p, with their intervals.
    """
    means, contrasts = tables["baseline_means"], tables["baseline_contrasts"]
    means, contrasts = means[means["subset"] == ALL], contrasts[contrasts["subset"] == ALL]
    wide = means.drop_duplicates(KEY)[KEY].reset_index(drop=True)
    for metric, column in {**SHOWN, KL: KL}.items():
        wide = wide.merge(_named(means[means["metric"] == metric], column), on=KEY, how="left")
    for minus, column in ((REFERENCE, "minus_reference"), ("few_shot", "minus_few_shot")):
        own = contrasts[(contrasts["minus"] == minus) & (contrasts["metric"] == "logprob")]
        wide = wide.merge(_named(own, column), on=KEY, how="left")
    wide = wide.merge(choices, on=KEY, how="left").astype({"layer": "Int64", "n_options": "Int64", "n_fitted": "Int64"})
    known = wide["condition"].map(lambda name: notes.get(name))
    wide = wide.assign(
        label=[note.label if note else name for note, name in zip(known, wide["condition"], strict=True)],
        source=[note.source if note else "" for note in known],
        trains=[bool(note and note.trains) for note in known],
        n_fit_trials=wide["eval_qid"].map(dict(n_fit)).astype("Int64"),
    )
    order = {name: place for place, name in enumerate(["zero_shot", "few_shot", "few_shot_corrupted", *notes])}
    place = wide["condition"].map(order)
    about = ["label", "source", "trains", "n_fit_trials", "n_options", "n_fitted", "layer", "alpha"]
    first = [*KEY, *about]
    rest = [name for name in wide if name not in first]
    by_place = wide.assign(_place=place).sort_values(["choice", "eval_qid", "_place"], kind="stable", ignore_index=True)
    return by_place[[*first, *rest]]


def _named(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    ends = {"mean": column, "ci_low": f"{column}_ci_low", "ci_high": f"{column}_ci_high"}
    return rows[[*KEY, *ends]].rename(columns=ends)


def _over_relations(table: pd.DataFrame, stats: StatsConfig, seed: int, clusters: Mapping[str, str]) -> pd.DataFrame:
    """Add the means over relations, with intervals over clusters of relations."""
    by = [name for name in ("condition", "minus", "choice", "subset", "metric") if name in table]
    found = [table]
    wide = table.pivot(index=by, columns="eval_qid", values="mean").dropna()  # measured in every relation
    if len(wide.columns) > 1 and len(wide):
        values = np.ascontiguousarray(wide.to_numpy())  # so that a row's sums do not depend on the other rows
        units = per_cluster(values, clusters_of(wide.columns.tolist(), clusters))  # (n_rows, n_clusters)
        estimates = estimate_means(units, stats, seed, "baselines")
        overall = wide.index.to_frame(index=False).assign(eval_qid=OVERALL, n=units.shape[1], **estimates.columns())
        found.append(overall)
    columns = ["eval_qid", *by, "n", *INTERVAL]
    return pd.concat(found, ignore_index=True)[columns].sort_values(["eval_qid", *by], ignore_index=True)
