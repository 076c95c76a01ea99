"""Spread of refits in tables of means (docs/methods.md, "Refits")."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import scipy  # loads its submodules, which are slow to import, at their first use

from fv.config import StatsConfig
from fv.statistics.grouped import LIMITS
from fv.statistics.intervals import Kind

REFITS = ("n_refits", "refit_sd")
"""Columns of a mean's refits: their number, and their standard deviation."""


def refit_means(rows: pd.DataFrame, on: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Mean of each metric over each refit's trials.

    Args:
        rows: trial rows of all conditions, in subsets.
        on: the columns that identify a mean, `metric` last; `condition` is the condition that is refitted.
        metrics: the columns to average.

    Returns:
        the columns of `on`, `draw` and `mean`.
    """
    refits = rows[rows["refit_of"].fillna("") != ""].drop(columns="condition").rename(columns={"refit_of": "condition"})
    long = refits.melt([*on[:-1], "draw"], list(metrics), "metric", "mean")
    return long.groupby([*on, "draw"])["mean"].mean().reset_index()


def minus_refits(contrasts: pd.DataFrame, refits: pd.DataFrame) -> pd.DataFrame:
    """Refits of contrasts: each refit of the effect minus the refit of the control with the same draw.

    A control without refits is constant and adds nothing to their spread.

    Args:
        contrasts: the columns that identify a contrast, `condition` and `minus` among them.
        refits: `refit_means` of the conditions.
    """
    control = refits.rename(columns={"condition": "minus", "mean": "control"})
    effects = contrasts.merge(refits, on=[name for name in contrasts if name != "minus"])
    both = effects.merge(control, on=[name for name in control if name != "control"], how="left")
    return both.assign(mean=both["mean"] - both["control"].fillna(0.0)).drop(columns="control")


def widened(
    table: pd.DataFrame, refits: pd.DataFrame, on: Sequence[str], kinds: Mapping[str, Kind], stats: StatsConfig
) -> pd.DataFrame:
    """Widen the intervals of a table of means by the spread of refits, and add columns `n_refits` and `refit_sd`.

    The injected vector is one of many that other fit trials would have given; the standard deviation of the refits
    estimates theirs. On each side, Student's t times this standard deviation is added in quadrature to the interval's
    distance from the mean (Zou and Donner, "Construction of confidence limits about effect measures", 2008).

    Args:
        table: one row per mean: the columns of `on`, `metric` among them, `mean`, `se`, `ci_low` and `ci_high`.
        refits: one row per mean and refit.
        on: the columns that identify a mean.
        kinds: {metric: the kind of its values}.
        stats: the level of the intervals.
    """
    spread = refits.groupby([*on])["mean"].agg(n_refits="size", refit_sd="std").reset_index()
    table = table.merge(spread, on=[*on], how="left")
    n, sd, mean = table["n_refits"].fillna(0), table["refit_sd"].fillna(0.0), table["mean"]
    half = scipy.stats.t.ppf((1 + stats.confidence) / 2, np.maximum(n - 1, 1)) * sd
    limits = [LIMITS.get(kinds[metric], (-np.inf, np.inf)) for metric in table["metric"]]
    least, most = np.array(limits, dtype=float).reshape(-1, 2).T
    return table.assign(
        se=np.hypot(table["se"], sd),
        ci_low=np.maximum(mean - np.hypot(mean - table["ci_low"], half), least),
        ci_high=np.minimum(mean + np.hypot(table["ci_high"] - mean, half), most),
        n_refits=table["n_refits"].astype("Int64"),
    )
