"""Means with standard errors and bootstrap intervals (docs/methods.md, "Intervals").

The bootstrap is scipy's. All series of one call are resampled together: a resample takes the same trials from each, so
that differences between series are paired.
"""

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.stats import DegenerateDataWarning, bootstrap, norm
from scipy.stats import t as student_t

from fv.config import StatsConfig
from fv.seeding import generator_for

INTERVAL = ["mean", "se", "ci_low", "ci_high"]
_MOST_NUMBERS = 4_000_000
"""Numbers held at once, which bounds memory at some tens of megabytes."""
_ROUNDING = 1e-9
"""Share of a series' range within which a resample's mean is the sample's own. BCa counts resamples below the sample:
one of the same values in another order must not be counted so by its last bit."""


@dataclass(frozen=True)
class Estimates:
    """Means over trials, one a series; each array is (n_series,).

    Attributes:
        n: trials a series.
        mean: their mean.
        se: standard error, the standard deviation of the resamples' means; NaN for a single trial.
        ci_low: lower end of the interval; NaN for a single trial.
        ci_high: upper end of the interval; NaN for a single trial.
        p_positive: share of the resamples whose mean is above zero; NaN for a single trial.
    """

    n: int
    mean: np.ndarray
    se: np.ndarray
    ci_low: np.ndarray
    ci_high: np.ndarray
    p_positive: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """The estimates by name, without `n` and `p_positive`."""
        return {name: getattr(self, name) for name in INTERVAL}

    def of(self, series: int) -> dict[str, float | None]:
        """One series' estimates for JSON; None where there is none."""
        numbers = {name: float(values[series]) for name, values in self.columns().items()}
        return {name: None if np.isnan(value) else value for name, value in numbers.items()}


def bootstrap_means(values: np.ndarray, stats: StatsConfig, seed: int, *purpose: object) -> Estimates:
    """Mean of each series, (n_series, n_trials), with its bootstrap interval over trials.

    A series whose values are all equal has an interval of no width: the sample shows no spread, and how little that
    says depends on `n`.

    Args:
        values: the series, without NaN.
        stats: level, resamples and method.
        seed: the run's seed.
        purpose: what the resamples are for; the same purpose draws the same resamples.

    Raises:
        ValueError: there is no trial, or a value is not finite.
    """
    values = np.ascontiguousarray(values)
    n_series, n = values.shape
    if not n or not np.isfinite(values).all():
        raise ValueError(f"{n_series} series of {n} trials: one or more finite values each are due")
    mean = values.mean(-1)
    if n == 1:
        return Estimates(n, mean, *(np.full(n_series, np.nan) for _ in range(4)))
    # Standard error, interval and share above zero; without spread, all of it is the one value.
    found = np.stack([np.zeros(n_series), mean, mean, (mean > 0).astype(np.float64)])
    varied = np.flatnonzero(np.ptp(values, -1) > 0)
    step = max(1, _MOST_NUMBERS // max(n * n, stats.n_resamples))
    for start in range(0, len(varied), step):
        part = varied[start : start + step]
        found[:, part] = _interval(values[part], stats, seed, purpose)
    return Estimates(n, mean, *found)


def expanded_level(confidence: float, n: int) -> float:
    """The level to read off a bootstrap of `n` values so that the interval covers `confidence`.

    A bootstrap knows neither that it divides by n instead of n - 1 nor that the spread is estimated, so its intervals
    are too narrow: at 95 % and n = 10 they cover about 90 %. Read at the level at which the normal quantile is the
    one of Student's t, they cover what they say (T. Hesterberg, "What Teachers Should Know About the Bootstrap",
    2014: expanded percentile intervals).
    """
    quantile = np.sqrt(n / (n - 1)) * student_t.ppf((1 + confidence) / 2, n - 1)
    return float(min(2 * norm.cdf(quantile) - 1, 1 - 1e-12))


def _interval(values: np.ndarray, stats: StatsConfig, seed: int, purpose: tuple[object, ...]) -> np.ndarray:
    """Standard error, interval and share above zero of some series: (4, n_series)."""
    level = expanded_level(stats.confidence, values.shape[1])
    own, rounding = values.mean(-1), _ROUNDING * np.ptp(values, -1)

    def mean(resamples: np.ndarray, axis: int) -> np.ndarray:
        # How a resample lies in memory depends on how many are drawn together, and decides the last bit of a sum.
        found = np.ascontiguousarray(resamples).mean(axis)  # (n_series, ...)
        centre, near = (a.reshape(-1, *[1] * (found.ndim - 1)) for a in (own, rounding))
        return np.where(np.abs(found - centre) <= near, centre, found)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)
        found = bootstrap(
            (values,),
            mean,
            axis=-1,
            vectorized=True,
            n_resamples=stats.n_resamples,
            confidence_level=level,
            method=stats.method.value,
            batch=max(1, _MOST_NUMBERS // values.size),
            # Every part of the series sees the same resamples.
            rng=generator_for(seed, "bootstrap", *purpose),
        )
    means = found.bootstrap_distribution  # (n_series, n_resamples)
    low, high = found.confidence_interval
    # BCa has no interval where values differ by rounding alone; their percentiles are as good as equal.
    tail = (1 - level) / 2
    low = np.where(np.isnan(low), np.quantile(means, tail, axis=-1), low)
    high = np.where(np.isnan(high), np.quantile(means, 1 - tail, axis=-1), high)
    return np.stack([found.standard_error, low, high, (means > 0).mean(-1)])


def grouped_means(
    rows: pd.DataFrame, by: Sequence[str], columns: Sequence[str], unit: str, stats: StatsConfig, seed: int
) -> pd.DataFrame:
    """Means of columns within groups, with intervals over the groups' units.

    Args:
        rows: one row a group and unit; groups over the same units are resampled together.
        by: the columns that name a group.
        columns: the columns to average; a group with a missing value in a column has no estimate of it.
        unit: the column that names what is resampled (the trial).
        stats: level, resamples and method.
        seed: the run's seed.

    Returns:
        one row a (group, metric), sorted: the columns of `by`, `metric`, `n`, `mean`, `se`, `ci_low`, `ci_high`.
    """
    ordered = rows.sort_values([*by, unit], ignore_index=True)
    numbers = ordered[list(columns)].to_numpy(dtype=np.float64)  # (n_rows, n_columns)
    names, units_of_rows = ordered[list(by)].to_numpy(), ordered[unit].to_numpy()
    starts = np.flatnonzero(~ordered.duplicated(list(by)).to_numpy()).tolist()
    series: dict[tuple[str, ...], list[tuple[Hashable, ...]]] = {}
    values: dict[tuple[str, ...], list[np.ndarray]] = {}
    for start, end in pairwise([*starts, len(ordered)]):
        units = tuple(units_of_rows[start:end])
        for column, found in zip(columns, numbers[start:end].T, strict=True):
            if not np.isnan(found).any():
                series.setdefault(units, []).append((*names[start], column))
                values.setdefault(units, []).append(found)
    tables = []
    for units, keys in series.items():
        estimates = bootstrap_means(np.stack(values[units]), stats, seed, *units)
        table = pd.DataFrame(keys, columns=[*by, "metric"])
        tables.append(table.assign(n=estimates.n, **estimates.columns()))
    if not tables:
        return pd.DataFrame(columns=[*by, "metric", "n", *INTERVAL])
    return pd.concat(tables, ignore_index=True).sort_values([*by, "metric"], ignore_index=True)
