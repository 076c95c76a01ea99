"""Results of the chosen cells on test trials: tables, and their part of the summary (docs/methods.md)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from fv.config import StatsConfig
from fv.evaluation.caveats import EXACT, says_nothing
from fv.evaluation.headline import headline_table
from fv.evaluation.held_out import HeldOutRows
from fv.evaluation.refits import REFITS
from fv.evaluation.summary import records
from fv.evaluation.tables import KEY, WHERE, contrasts_table, means_table, where_of
from fv.files import JsonObject
from fv.statistics.grouped import SPREAD
from fv.statistics.intervals import INTERVAL
from fv.vectors.vector import Vector


class HeldOutResults(NamedTuple):
    """Results on test trials.

    Attributes:
        trials: one row per (fv, relation, condition, draw, trial).
        tables: {name of its CSV file: table}.
        summary: their part of the summary, as JSON.
    """

    trials: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    summary: JsonObject


def held_out_results(
    found: HeldOutRows,
    vectors: Mapping[str, Vector],
    collision_rates: Mapping[str, float],
    stats: StatsConfig,
    seed: int,
) -> HeldOutResults:
    """Build the tables and the summary from the rows of all conditions.

    Args:
        found: rows of every relation.
        vectors: {name: injected vector}.
        collision_rates: {q_id: share of its outputs that have their first token in common with another output}.
        stats: level, resamples and method of intervals.
        seed: the run's seed.
    """
    trials = pd.concat(found.trials, ignore_index=True).astype({"layer": "Int64"})
    means = means_table(trials, stats, seed)
    contrasts = contrasts_table(trials, found.contrasts, stats, seed)
    relations = with_collisions(pd.concat(found.relations, ignore_index=True), collision_rates)
    headline = headline_table(trials, means, contrasts, relations, vectors, stats, seed)
    held_out = means.merge(where_of(trials), on=[*KEY, "draw"])
    tables = {"headline": headline, "held_out": held_out, "contrasts": contrasts}
    summary = {
        "headline": records(headline),
        "relations": records(relations),
        "held_out": nested(held_out, [*KEY, "draw", *WHERE, "subset", "n"], REFITS),
        "contrasts": nested(contrasts, [*KEY, "minus", "subset", "n", "n_draws"], (*SPREAD[1:], *REFITS)),
    }
    return HeldOutResults(trials, tables, summary)


def with_collisions(relations: pd.DataFrame, rates: Mapping[str, float]) -> pd.DataFrame:
    """Add to the relations' rows the rate of collisions of first tokens, and the lead metric that follows from it."""
    leads = [EXACT if q_id in says_nothing(rates) else "top1" for q_id in relations["eval_qid"]]
    return relations.assign(collision_rate=relations["eval_qid"].map(dict(rates)), lead_metric=leads)


def nested(table: pd.DataFrame, key: Sequence[str], more: Sequence[str] = ()) -> list[JsonObject]:
    """Group rows of single metrics into one JSON object per key, which contains its metrics.

    Args:
        table: rows with the columns of `key`, `metric`, a mean with its interval, and `more`.
        key: the columns that identify an object.
        more: further columns that each metric gets.
    """
    found: dict[tuple[Any, ...], JsonObject] = {}
    for row in records(table):
        own = found.setdefault(tuple(row[name] for name in key), {name: row[name] for name in key} | {"metrics": {}})
        own["metrics"][row["metric"]] = {name: row[name] for name in (*INTERVAL, *more)}
    return list(found.values())
