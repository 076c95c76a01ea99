"""Seeds: means over runs that differ only in their seed, and counts of the runs that have a head at the top."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fv.config import StatsConfig
from fv.statistics.grouped import grouped_means
from fv.statistics.intervals import Kind
from fv.vectors.names import ranking_name


def means_over_seeds(tables: Mapping[int, pd.DataFrame], by: Sequence[str], stats: StatsConfig) -> pd.DataFrame:
    """Means over runs: one row for each mean and metric that every run has.

    Args:
        tables: {seed: the run's table of means}, with the columns of `by`, `metric` and `mean`.
        by: the columns that identify a mean.
        stats: level, resamples and method of the intervals over seeds.

    Returns:
        the columns of `by`, `metric`, `n_seeds`, and the mean over seeds with its interval.
    """
    with_seeds = [table.assign(seed=seed) for seed, table in tables.items()]
    rows = pd.concat(with_seeds, ignore_index=True).rename(columns={"metric": "of_metric"})
    found = grouped_means(rows, [*by, "of_metric"], {"mean": Kind.mean}, "seed", stats, seed=0)
    found = found[found["n"] == len(tables)].drop(columns="metric")
    return found.rename(columns={"of_metric": "metric", "n": "n_seeds"}).reset_index(drop=True)


def head_counts(runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Count the runs in which a head is among the top k of each ranking.

    Args:
        runs: each run's top heads, `fv.vectors.rankings.TopHeads.described`.

    Returns:
        ranking, layer, head, n_runs; the most frequent heads of a ranking first.
    """
    rows = []
    for ranked in runs:
        for of, heads in [(None, ranked["global"]), *ranked["per_qid"].items()]:
            rows += [{"ranking": ranking_name(of), "layer": head["layer"], "head": head["head"]} for head in heads]
    counts = pd.DataFrame(rows).value_counts(["ranking", "layer", "head"]).rename("n_runs").reset_index()
    return counts.sort_values(["ranking", "n_runs", "layer", "head"], ascending=[True, False, True, True])
