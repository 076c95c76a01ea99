"""Tables of means within groups, with intervals over trials and over draws (docs/methods.md, "Intervals")."""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import scipy  # its parts are loaded when they are first used, which takes a while

from fv.config import StatsConfig
from fv.statistics.intervals import INTERVAL, Kind, estimate_means

SPREAD = ["n_draws", "draw_sd", "draw_min", "draw_max"]
LIMITS = {Kind.proportion: (0.0, 1.0), Kind.proportion_difference: (-1.0, 1.0)}
"""Smallest and largest possible end of an interval."""


@dataclass(frozen=True)
class _Group:
    """The rows of one group: `numbers` is (n_units, n_draws, n_columns)."""

    names: tuple[Any, ...]
    units: tuple[Hashable, ...]
    numbers: np.ndarray
    all_draws: bool


def grouped_means(
    rows: pd.DataFrame,
    by: Sequence[str],
    columns: Mapping[str, Kind],
    unit: str,
    stats: StatsConfig,
    seed: int,
    draw: str | None = None,
) -> pd.DataFrame:
    """Means of columns within groups, with intervals over the groups' units, and over draws if there are several.

    If a group has draws, every unit has each of them. The interval over units, of each unit's mean over the draws, is
    then widened by the interval over draws: on each side, the two distances from the mean are added in quadrature (Zou
    and Donner, "Construction of confidence limits about effect measures", 2008). The distance for draws is Student's t
    times the standard error of their means. The variance that belongs to a unit and a draw together counts in both:
    95 % intervals over units and draws that vary normally hold the mean in 93.7 % of cases or more, and in up to 99 %
    if draws are few (docs/methods.md, "Intervals"). A single draw out of several possible ones gives no interval; draws
    that are all the possible ones (`all_draws`) widen nothing.

    Args:
        rows: one row per group and unit (and draw); groups over the same units are resampled together. With `draw`, the
            column `all_draws` says whether a group's draws are all the possible ones.
        by: the columns that name a group.
        columns: the columns to average, with their kinds; a group with a missing value in one has no estimate of it.
        unit: the column that names the resampled unit (the trial).
        stats: level, resamples and method.
        seed: the run's seed.
        draw: the column that numbers a group's draws, if it has any.

    Returns:
        one row per (group, metric), sorted: the columns of `by`, `metric`, `n`, `mean`, `se`, `ci_low`, `ci_high`; with
        `draw` also `n_draws` and the standard deviation, minimum and maximum of the draws' means.

    Raises:
        ValueError: a unit lacks a draw that another unit of its group has, or occurs twice.
    """
    # Groups over the same units are estimated in one call per kind.
    together: dict[tuple[tuple[Hashable, ...], Kind], list[tuple[_Group, int]]] = defaultdict(list)
    for group in _groups(rows, by, list(columns), unit, draw):
        for i, kind in enumerate(columns.values()):
            if not np.isnan(group.numbers[..., i]).any():
                together[group.units, kind].append((group, i))
    names = [*by, "metric"]
    measured = ["n", *INTERVAL, *(SPREAD if draw else [])]
    tables = []
    for (units, kind), series in together.items():
        values = np.stack([group.numbers[..., i].mean(1) for group, i in series])  # (n_series, n_units)
        estimates = estimate_means(values, stats, seed, *units, kind=kind)
        table = pd.DataFrame([(*group.names, list(columns)[i]) for group, i in series], columns=names)
        table = table.assign(n=estimates.n, **estimates.columns())
        tables.append(_widened(table, series, kind, stats.confidence) if draw else table)
    if not tables:
        return pd.DataFrame(columns=[*names, *measured])
    return pd.concat(tables, ignore_index=True).sort_values(names, ignore_index=True)[[*names, *measured]]


def _groups(rows: pd.DataFrame, by: Sequence[str], columns: Sequence[str], unit: str, draw: str | None) -> list[_Group]:
    ordered = rows.sort_values([*by, *([draw] if draw else []), unit], ignore_index=True)
    numbers = ordered[list(columns)].to_numpy(dtype=np.float64)  # (n_rows, n_columns)
    names, units, draws = (ordered[key].to_numpy() for key in (list(by), unit, draw or unit))
    every = ordered["all_draws"].to_numpy(dtype=bool) if draw else np.ones(len(ordered), dtype=bool)
    starts = np.flatnonzero(~ordered.duplicated(list(by)).to_numpy()).tolist()
    found = []
    for start, end in pairwise([*starts, len(ordered)]):
        n_draws = len(set(draws[start:end].tolist())) if draw else 1
        n_units, rest = divmod(end - start, n_draws)
        by_draw = units[start : start + n_units * n_draws].reshape(n_draws, n_units)
        if rest or len(set(by_draw[0].tolist())) < n_units or (by_draw != by_draw[0]).any():
            raise ValueError(f"{names[start].tolist()}: each {unit} is due once{f' in every {draw}' if draw else ''}")
        # (n_draws * n_units, n_columns) -> (n_units, n_draws, n_columns)
        values = numbers[start:end].reshape(n_draws, n_units, -1).swapaxes(0, 1)
        found.append(_Group(tuple(names[start]), tuple(by_draw[0]), values, bool(every[start:end].all())))
    return found


def _widened(table: pd.DataFrame, series: Sequence[tuple[_Group, int]], kind: Kind, confidence: float) -> pd.DataFrame:
    """The table with the draws' share in `se` and the interval, and with the spread of the draws' means."""
    draws = [group.numbers[..., i].mean(0) for group, i in series]  # each (n_draws,)
    n = np.array([len(means) for means in draws])
    sd = np.array([means.std(ddof=1) if len(means) > 1 else np.nan for means in draws])
    # A complete set of draws has no share; a single draw of several has an unknown one.
    every = np.array([group.all_draws for group, _ in series])
    se = np.where(every, 0.0, sd / np.sqrt(n))
    half = scipy.stats.t.ppf((1 + confidence) / 2, np.maximum(n - 1, 1)) * se
    mean = table["mean"].to_numpy()
    low = mean - np.hypot(mean - table["ci_low"].to_numpy(), half)
    high = mean + np.hypot(table["ci_high"].to_numpy() - mean, half)
    least, most = LIMITS.get(kind, (-np.inf, np.inf))
    low, high = np.maximum(low, least), np.minimum(high, most)
    spread = {"draw_min": [means.min() for means in draws], "draw_max": [means.max() for means in draws]}
    return table.assign(
        se=np.hypot(table["se"].to_numpy(), se), ci_low=low, ci_high=high, n_draws=n, draw_sd=sd, **spread
    )
