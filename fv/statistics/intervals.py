"""Intervals of means over trials, by the kind of the values (docs/methods.md, "Intervals").

All series of one call are over the same trials. A bootstrap resamples them together, so that differences between
series are paired.
"""

import warnings
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import scipy  # its parts are loaded when they are first used, which takes a while

from fv.config import StatsConfig
from fv.seeding import generator_for

INTERVAL = ["mean", "se", "ci_low", "ci_high"]
FEWEST_TO_RESAMPLE = 7
"""Fewest values to resample: with fewer, a bootstrap covers less than it states (`benchmarks/coverage.py`)."""
MOST_NUMBERS = 4_000_000
"""Numbers held in memory at once: some tens of megabytes."""
_ROUNDING = 1e-9
"""Share of a series' range within which a resample's mean counts as equal to the sample's mean, or to zero. BCa counts
resamples below the sample's mean and `p_positive` those above zero: neither may depend on a last bit."""
_EXACT_BITS = 53
"""Bits of a whole number that float64 holds exactly; sums within them are exact in any order."""


class Kind(StrEnum):
    """Kinds of values of a series; the kind decides how the interval of the mean is found."""

    mean = "mean"
    """Numbers of any size: Student's t; from seven values on, each end is the farther of Student's t and the bootstrap.
    If a few large values on either side carry a mean, the bootstrap covers far less than it states; if values are
    skewed, Student's t does."""
    proportion = "proportion"
    """0 or 1: Clopper and Pearson (1934)."""
    proportion_difference = "proportion_difference"
    """Differences of proportions trial by trial, or of their means over draws, from -1 to 1: after Bonett and Price
    (2012)."""


@dataclass(frozen=True)
class Estimates:
    """Means over trials, one per series; each array is (n_series,).

    Attributes:
        n: trials per series.
        mean: their mean.
        se: standard error, the sample's standard deviation (n - 1) over the root of n; NaN for a single trial.
        ci_low: lower end of the interval; NaN for a single trial, except for proportions.
        ci_high: upper end of the interval; NaN likewise.
        p_positive: how likely the mean is above zero: the share of bootstrap resamples whose mean is, or Student's t at
            zero if nothing is resampled; NaN for a single trial, and for proportions.
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
        """One series' estimates for JSON, with None for NaN."""
        numbers = {name: float(values[series]) for name, values in self.columns().items()}
        return {name: None if np.isnan(value) else value for name, value in numbers.items()}


def estimate_means(
    values: np.ndarray,
    stats: StatsConfig,
    seed: int,
    *purpose: object,
    kind: Kind = Kind.mean,
    most_numbers: int = MOST_NUMBERS,
) -> Estimates:
    """Mean of each series, (n_series, n_trials), with its interval over trials.

    A series of kind `mean` whose values are all equal has an interval of zero width, because the sample shows no
    spread; the fewer trials, the less this says. Intervals of proportions always have some width.

    For symmetric values (normal, Student's t with 3 degrees of freedom, normal with ten times the spread for a tenth),
    95 % intervals hold the mean in 94.7 % of cases or more, at any `n` from 2 to 30; for skewed values (exponential) in
    87 to 96 %, no less often than Student's t alone (docs/methods.md, "Intervals"). This is for BCa: `basic` and
    `percentile` hold skewed means less often.

    Args:
        values: the series, without NaN.
        stats: level, resamples and method.
        seed: the run's seed.
        purpose: what the resamples are for; the same purpose draws the same resamples.
        kind: what the values are.
        most_numbers: largest number of numbers in memory at once; it changes no result.

    Raises:
        ValueError: there is no trial, a value is not finite, or a value is not of the kind.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    n_series, n = values.shape
    if not n or not np.isfinite(values).all():
        raise ValueError(f"{n_series} series of {n} trials: one or more finite values each are due")
    if kind is Kind.proportion and not np.isin(values, (0, 1)).all():
        raise ValueError("a proportion is of values 0 and 1")
    if kind is Kind.proportion_difference and np.abs(values).max(initial=0) > 1:
        raise ValueError("a difference of proportions is of values from -1 to 1")
    mean, nothing = values.mean(-1), np.full(n_series, np.nan)
    spread = np.ptp(values, -1)
    se = np.where(spread > 0, values.std(-1, ddof=1), 0.0) / np.sqrt(n) if n > 1 else nothing
    if kind is Kind.proportion:
        return Estimates(n, mean, se, *clopper_pearson(values.sum(-1), n, stats.confidence), nothing)
    if n == 1:
        return Estimates(n, mean, se, nothing, nothing, nothing)
    if kind is Kind.proportion_difference:
        return Estimates(n, mean, se, *adjusted_wald(values, stats.confidence), nothing)
    # Without spread, or if its square underflows to zero, the interval is the one value.
    found = np.stack([mean, mean, (mean > 0).astype(np.float64)])
    varied = np.flatnonzero(se)
    half = scipy.stats.t.ppf((1 + stats.confidence) / 2, n - 1) * se
    if n < FEWEST_TO_RESAMPLE:
        found[:2] = mean - half, mean + half
        found[2, varied] = scipy.stats.t.cdf(mean[varied] / se[varied], n - 1)
    else:
        step = max(1, most_numbers // max(n * n, stats.n_resamples))
        for start in range(0, len(varied), step):
            part = varied[start : start + step]
            found[:, part] = _resampled(values[part], stats, seed, purpose, most_numbers)
        found[:2] = np.minimum(found[0], mean - half), np.maximum(found[1], mean + half)
    return Estimates(n, mean, se, *found)


def clopper_pearson(successes: np.ndarray, n: int, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """The exact interval of proportions, (n_series,) successes of `n`: it covers `confidence` or more at any `n`."""
    tail = (1 - confidence) / 2
    failures = n - successes
    low = np.where(successes > 0, scipy.stats.beta.ppf(tail, np.maximum(successes, 1), failures + 1), 0.0)
    high = np.where(failures > 0, scipy.stats.beta.ppf(1 - tail, successes + 1, np.maximum(failures, 1)), 1.0)
    return low, high


def adjusted_wald(differences: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """The interval of paired differences of proportions, (n_series, n_trials) of values from -1 to 1.

    It is Wald's interval after c trials with a difference of 1 and c trials with -1 are added. Bonett and Price (2012,
    "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data") use c = 1 and a
    normal quantile. Here c is z² / 2, as Agresti and Coull add to a single proportion, and the quantile is Student's:
    the smallest coverage over all probabilities is then nearer to the stated level (`benchmarks/coverage.py`). At 95 %
    it is 93.9 % or more for n from 2 to 30. Below 95 % it may be less than stated: 87 % at 90 %.
    """
    n = differences.shape[-1]
    added = max(1.0, scipy.stats.norm.ppf((1 + confidence) / 2) ** 2 / 2)
    total = n + 2 * added
    centre = differences.sum(-1) / total
    variance = ((differences**2).sum(-1) + 2 * added) / total - centre**2
    half = scipy.stats.t.ppf((1 + confidence) / 2, total - 1) * np.sqrt(variance / total)
    mean = differences.mean(-1)
    low, high = np.minimum(centre - half, mean), np.maximum(centre + half, mean)
    return np.maximum(low, -1.0), np.minimum(high, 1.0)


def expanded_level(confidence: float, n: int) -> float:
    """The level to read off a bootstrap of `n` values so that the interval covers `confidence`.

    A bootstrap divides by n instead of n - 1, and ignores that the spread is estimated, so its intervals are too
    narrow: at 95 % and n = 10 they cover about 90 %. Read at the level whose normal quantile is the one of Student's t,
    they cover what they state (T. Hesterberg, "What Teachers Should Know About the Bootstrap", 2014: expanded
    percentile intervals).
    """
    quantile = np.sqrt(n / (n - 1)) * scipy.stats.t.ppf((1 + confidence) / 2, n - 1)
    return float(min(2 * scipy.stats.norm.cdf(quantile) - 1, 1 - 1e-12))


def _resampled(
    values: np.ndarray, stats: StatsConfig, seed: int, purpose: tuple[object, ...], most_numbers: int
) -> np.ndarray:
    """Interval and share above zero of several series, by the bootstrap: (3, n_series)."""
    n = values.shape[1]
    level = expanded_level(stats.confidence, n)
    own, rounding = values.mean(-1), _ROUNDING * np.ptp(values, -1)
    whole, unit = _as_whole_numbers(values - own[:, None])  # (n_series, n_trials), (n_series,)

    def mean(trials: np.ndarray, axis: int) -> np.ndarray:
        # Counts of each trial's draws, times the trials' values: a matrix product is many times faster than gathering
        # the values. On whole numbers it is exact, so it does not depend on the other series in it.
        del axis  # always the last
        drawn = trials.reshape(-1, trials.shape[-1])
        places = drawn + n * np.arange(len(drawn))[:, None]
        times = np.bincount(places.ravel(), minlength=n * len(drawn)).reshape(-1, n).astype(np.float64)
        off = (whole @ times.T).reshape(-1, *trials.shape[:-1])  # (n_series, ...)
        step, centre, near = (a.reshape(-1, *[1] * (off.ndim - 1)) for a in (unit, own, rounding))
        off = off * step / trials.shape[-1]
        found = np.where(np.abs(off) <= near, centre, centre + off)
        return np.where(np.abs(found) <= near, 0.0, found)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
        found = scipy.stats.bootstrap(
            (np.arange(values.shape[1]),),
            mean,
            axis=-1,
            vectorized=True,
            n_resamples=stats.n_resamples,
            confidence_level=level,
            method=stats.method.value,
            batch=max(1, most_numbers // (len(values) + 2 * n)),
            # Every part of the series sees the same resamples.
            rng=generator_for(seed, "bootstrap", *purpose),
        )
    means = found.bootstrap_distribution  # (n_series, n_resamples)
    low, high = found.confidence_interval
    # BCa has no interval if values differ by rounding only; their percentiles are then practically equal.
    tail = (1 - level) / 2
    low = np.where(np.isnan(low), np.quantile(means, tail, axis=-1), low)
    high = np.where(np.isnan(high), np.quantile(means, 1 - tail, axis=-1), high)
    return np.stack([low, high, (means > 0).mean(-1)])


def _as_whole_numbers(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Series, (n_series, n_trials), as whole multiples of a unit per series, small enough for an exact sum."""
    n = values.shape[-1]
    _, exponent = np.frexp(np.abs(values).max(-1))
    shift = _EXACT_BITS - 1 - int(n).bit_length() - exponent
    return np.rint(np.ldexp(values, shift[:, None])), np.ldexp(1.0, -shift)
