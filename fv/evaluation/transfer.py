"""Transfer: each relation's vector on each relation, at its chosen cell (docs/methods.md, "Transfer")."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fv.config import StatsConfig
from fv.evaluation.summary import records
from fv.evaluation.tables import ALL
from fv.files import JsonObject
from fv.interventions.metrics import cosine
from fv.statistics.clusters import clusters_of, per_cluster
from fv.statistics.intervals import INTERVAL, estimate_means
from fv.tables import Tables
from fv.vectors.kinds import OWN
from fv.vectors.vector import Vector

PRIMARY = "delta_logprob"


def similarity(one: Vector, other: Vector) -> float:
    """Cosine of two vectors; its mean over layers if one of them has a vector per layer."""
    layered = next((vector for vector in (one, other) if vector.is_layered), None)
    if layered is None:
        return cosine(one.values, other.values)
    return float(np.mean([cosine(one.values_at(at), other.values_at(at)) for at in range(len(layered.values))]))


def cosine_table(vectors: Sequence[Vector]) -> pd.DataFrame:
    """Cosine of each pair of vectors, as a square table after a first column `fv`."""
    rows = [[one.name, *(similarity(one, other) for other in vectors)] for one in vectors]
    return pd.DataFrame(rows, columns=["fv", *(vector.name for vector in vectors)])


def transfer_table(means: pd.DataFrame, contrasts: pd.DataFrame, vectors: Sequence[Vector]) -> pd.DataFrame:
    """Effect of each vector on each relation, also minus random vectors', and its cosine with the relation's vector.

    Args:
        means: `fv.evaluation.tables.means_table`.
        contrasts: `fv.evaluation.tables.contrasts_table`.
        vectors: the vectors; a relation's own vector is the one of the same k, preferably by its own ranking.

    Returns:
        one row per (fv, relation): fv, eval_qid, n, effect and its interval, effect_minus_control and its interval
        (missing without random vectors), cosine (missing if the relation has no vector of its own).
    """
    pair = ["fv", "eval_qid"]
    own = means[(means["condition"] == "fv") & (means["subset"] == ALL) & (means["metric"] == PRIMARY)]
    effect = own[[*pair, "n", *INTERVAL]].rename(columns={"mean": "effect"})
    against = contrasts[
        (contrasts["condition"] == "fv")
        & (contrasts["minus"] == "random_vector")
        & (contrasts["subset"] == ALL)
        # Both conditions edit the same prompts, so the difference in log p equals the difference of the changes.
        & (contrasts["metric"] == "logprob")
    ]
    control = against[[*pair, *INTERVAL]].rename(
        columns={"mean": "effect_minus_control", **{name: f"control_{name}" for name in INTERVAL[1:]}}
    )
    table = effect.merge(control, on=pair, how="left")
    named = {vector.name: vector for vector in vectors}
    own_of = {(vector.source_qid, vector.kind, vector.k): vector for vector in vectors}
    cosines = []
    for fv, eval_qid in table[pair].itertuples(index=False):
        k = named[fv].k
        own_vector = own_of.get((eval_qid, OWN.name, k)) or own_of.get((eval_qid, named[fv].kind, k))
        cosines.append(np.nan if own_vector is None else similarity(named[fv], own_vector))
    return table.assign(cosine=cosines)


def transfer_matrix(table: pd.DataFrame, value: str = "effect") -> pd.DataFrame:
    """Reshape the table to a matrix with one row per vector and one column per relation."""
    return (
        table.pivot(index="fv", columns="eval_qid", values=value)
        .reset_index(allow_duplicates=True)
        .rename_axis(columns=None)
    )


def dominance(
    rows: pd.DataFrame, stats: StatsConfig, seed: int, clusters: Mapping[str, str] | None = None
) -> JsonObject | None:
    """Advantage of each relation's own vector over the other relations' vectors.

    For each trial of a relation: the change in log p by its own vector minus the mean change by the other vectors. The
    mean over trials is the relation's dominance. The mean over relations is the matrix's diagonal dominance, with an
    interval over clusters of relations.

    Args:
        rows: trial rows of conditions (`fv.evaluation.tables.rated_rows`); `fv` names the vector's relation.
        stats: level, resamples and method of intervals.
        seed: the run's seed.
        clusters: {q_id: the relation's cluster}; a relation that is missing here is a cluster of its own.

    Returns:
        `n_relations`, `n_clusters`, `per_relation`, `mean` over relations with its interval (none for a single
        cluster), and `share_own_best`: the share of relations whose own vector has the largest mean change. None if no
        relation has both its own vector and another's.
    """
    effects = rows[rows["condition"] == "fv"]
    per_relation: list[JsonObject] = []
    own_best = []
    for eval_qid, here in effects.groupby("eval_qid", sort=True):
        wide = here.pivot(index="trial_id", columns="fv", values=PRIMARY).sort_index()
        if eval_qid not in wide or wide.shape[1] < 2:
            continue
        others = wide.drop(columns=[eval_qid])
        difference = (wide[eval_qid] - others.mean(axis=1)).to_numpy()[None]
        estimates = estimate_means(difference, stats, seed, "dominance", eval_qid)
        per_relation.append({"eval_qid": str(eval_qid), "n": estimates.n, **estimates.of(0)})
        own_best.append(bool(wide[eval_qid].mean() >= others.mean().max()))
    if not per_relation:
        return None
    of_relations = clusters_of([p["eval_qid"] for p in per_relation], clusters)
    units = per_cluster(np.array([[p["mean"] for p in per_relation]]), of_relations)
    overall = estimate_means(units, stats, seed, "dominance")
    return {
        "n_relations": len(per_relation),
        "n_clusters": overall.n,
        **overall.of(0),
        "share_own_best": float(np.mean(own_best)),
        "per_relation": per_relation,
    }


def dominance_of_each_k(
    rows: pd.DataFrame,
    vectors: Sequence[Vector],
    stats: StatsConfig,
    seed: int,
    clusters: Mapping[str, str] | None = None,
) -> list[JsonObject]:
    """Compute `dominance` separately for relations' vectors of each kind and k."""
    found = []
    for kind, k in sorted({(vector.kind, vector.k) for vector in vectors if vector.k is not None}):
        of_these = (vector for vector in vectors if (vector.kind, vector.k) == (kind, k))
        relation = {vector.name: vector.source_qid for vector in of_these if vector.source_qid is not None}
        own = rows[rows["fv"].isin(relation)].replace({"fv": relation})
        if (one := dominance(own, stats, seed, clusters)) is not None:
            found.append({"kind": kind, "k": k, **one})
    return found


def transfer_tables(
    trials: pd.DataFrame,
    means: pd.DataFrame,
    contrasts: pd.DataFrame,
    vectors: Sequence[Vector],
    stats: StatsConfig,
    seed: int,
    clusters: Mapping[str, str] | None = None,
) -> Tables:
    """Build all tables of transfer.

    Args:
        trials: trial rows of conditions on test trials.
        means: `fv.evaluation.tables.means_table`.
        contrasts: `fv.evaluation.tables.contrasts_table`.
        vectors: the vectors.
        stats: level, resamples and method of intervals.
        seed: the run's seed.
        clusters: {q_id: the relation's cluster}; a relation that is missing here is a cluster of its own.

    Returns:
        `transfer`, `transfer_matrix` and `fv_cosines`. If relations have both their own vector and another's, also
        `dominance`, one row per (kind, k), and `dominance_of_relations`, one row per (kind, k, relation).
    """
    table = transfer_table(means, contrasts, vectors)
    found = dominance_of_each_k(trials, vectors, stats, seed, clusters)
    tables = {"transfer": table, "transfer_matrix": transfer_matrix(table), "fv_cosines": cosine_table(vectors)}
    if not found:
        return tables
    own = [{"kind": one["kind"], "k": one["k"], **row} for one in found for row in one["per_relation"]]
    overall = [{key: value for key, value in one.items() if key != "per_relation"} for one in found]
    both = {"dominance": pd.DataFrame(overall), "dominance_of_relations": pd.DataFrame(own)}
    # If no row has an interval, a column of None would not be numeric.
    intervals = dict.fromkeys(INTERVAL, float)
    return {**tables, **{name: rows.astype(intervals) for name, rows in both.items()}}


def dominance_as_json(tables: Mapping[str, pd.DataFrame]) -> list[JsonObject]:
    """Rebuild the JSON of `dominance_of_each_k` from its tables."""
    if "dominance" not in tables:
        return []
    own: dict[tuple[Any, ...], list[JsonObject]] = defaultdict(list)
    for row in records(tables["dominance_of_relations"]):
        own[row.pop("kind"), row.pop("k")].append(row)
    return [{**one, "per_relation": own[one["kind"], one["k"]]} for one in records(tables["dominance"])]
