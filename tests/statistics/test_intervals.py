"""Means with intervals: against textbook formulas written out in numpy, and how often they hold the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm, t, ttest_1samp

from fv.config import StatsConfig
from fv.config.evaluation import BootstrapMethod
from fv.seeding import generator_for
from fv.statistics.intervals import FEWEST_TO_RESAMPLE, Estimates, estimate_means

QUICK = StatsConfig(n_resamples=300)
METHODS = list(BootstrapMethod)
PERCENTILE = StatsConfig(n_resamples=300, method=BootstrapMethod.percentile)
light = settings(max_examples=20, deadline=None)


def some_values(n_series: int, n_trials: int, seed: int = 0) -> np.ndarray:
    """Skewed, so that the three methods differ."""
    return np.random.default_rng(seed).exponential(size=(n_series, n_trials))


def bytes_of(found: Estimates) -> bytes:
    return np.stack([*found.columns().values(), found.p_positive]).tobytes()


def resampled_means(values: np.ndarray, n_resamples: int, seed: int, *purpose: object) -> np.ndarray:
    """Means of resamples drawn by the generator of the same purpose: (n_series, n_resamples)."""
    n = values.shape[1]
    indices = generator_for(seed, "bootstrap", *purpose).integers(0, n, (n_resamples, n))
    return np.array([[series[drawn].mean() for drawn in indices] for series in values])


def quantile(numbers: np.ndarray, q: float) -> float:
    """By sorting: linear between the two values around position q * (n - 1)."""
    ordered, position = np.sort(numbers), q * (len(numbers) - 1)
    low = int(position)
    high = min(low + 1, len(numbers) - 1)
    return float(ordered[low] + (position - low) * (ordered[high] - ordered[low]))


def tails_of(confidence: float, n: int) -> list[float]:
    """Where the normal distribution has Student's quantiles, widened by the bootstrap's divisor (Hesterberg, 2014)."""
    quantile = t.isf((1 - confidence) / 2, n - 1) * (n / (n - 1)) ** 0.5
    return [norm.cdf(-quantile), norm.cdf(quantile)]


def exact_mean(values: np.ndarray) -> float:
    """The mean, the same to the last bit in whatever order the values are."""
    return math.fsum(values) / len(values)


def students(values: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Student's t of each series, by scipy."""
    found = ttest_1samp(values, 0, axis=-1).confidence_interval(confidence)
    return found.low, found.high


def farther(low: np.ndarray, high: np.ndarray, values: np.ndarray, confidence: float = 0.95) -> np.ndarray:
    """Each end, or Student's where that is farther out: (n_series, 2)."""
    t_low, t_high = students(values, confidence)
    return np.column_stack([np.minimum(low, t_low), np.maximum(high, t_high)])


def expected_interval(values: np.ndarray, means: np.ndarray, stats: StatsConfig) -> tuple[float, float]:
    """One series' bootstrap interval, after Efron and Tibshirani (1993), sections 13.3 and 14.3."""
    tails = tails_of(stats.confidence, len(values))
    if stats.method is BootstrapMethod.BCa:
        mean = values.mean()
        z0 = norm.ppf(((means < mean).sum() + (means == mean).sum() / 2) / len(means))
        left_out = np.array([np.delete(values, i).mean() for i in range(len(values))])
        off = left_out.mean() - left_out
        a = (off**3).sum() / (6 * (off**2).sum() ** 1.5)
        shifted = [z0 + norm.ppf(tail) for tail in tails]
        tails = [float(norm.cdf(z0 + z / (1 - a * z))) for z in shifted]
    low, high = (quantile(means, tail) for tail in tails)
    return (2 * values.mean() - high, 2 * values.mean() - low) if stats.method is BootstrapMethod.basic else (low, high)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_each_methods_interval_is_what_its_definition_gives(method: BootstrapMethod, confidence: float) -> None:
    stats = StatsConfig(confidence=confidence, n_resamples=300, method=method)
    values = some_values(3, 11)
    found = estimate_means(values, stats, 5, "what", 1)
    means = resampled_means(values, 300, 5, "what", 1)
    ends = [expected_interval(series, drawn, stats) for series, drawn in zip(values, means, strict=True)]
    low, high = np.transpose(ends)
    expected = farther(low, high, values, confidence)
    assert (expected == np.array(ends)).any()  # the bootstrap's are among them
    np.testing.assert_allclose(np.column_stack([found.ci_low, found.ci_high]), expected, rtol=1e-9)
    np.testing.assert_allclose(found.se, values.std(1, ddof=1) / 11**0.5, rtol=1e-12)
    np.testing.assert_array_equal(found.p_positive, (means > 0).sum(1) / 300)


def test_the_three_methods_differ_on_skewed_values() -> None:
    found = [estimate_means(some_values(1, 11), replace(QUICK, method=m), 0) for m in METHODS]
    assert len({(*each.ci_low, *each.ci_high) for each in found}) == 3


@light
@given(st.integers(FEWEST_TO_RESAMPLE, 25), st.sampled_from(METHODS), st.integers(0, 2**32), st.floats(-1e6, 1e6))
def test_each_end_is_the_farther_of_scipys_bootstrap_and_students_t(
    n: int, method: BootstrapMethod, seed: int, offset: float
) -> None:
    values, stats = some_values(3, n, seed) + offset, replace(QUICK, method=method)
    found = estimate_means(values, stats, 1, "x")
    low_tail, high_tail = tails_of(0.95, n)
    alone = [
        bootstrap(
            (series,),
            exact_mean,
            vectorized=False,
            n_resamples=300,
            confidence_level=high_tail - low_tail,
            method=method.value,
            rng=generator_for(1, "bootstrap", "x"),
        )
        for series in values
    ]
    ends = np.array([each.confidence_interval for each in alone])
    low, high = ends.T
    due = farther(low, high, values)
    np.testing.assert_allclose(np.column_stack([found.ci_low, found.ci_high]), due, rtol=1e-9, atol=1e-9)
    above = [(each.bootstrap_distribution > 0).mean() for each in alone]
    np.testing.assert_allclose(found.p_positive, above, atol=1e-12)


def test_a_resample_of_noughts_alone_is_not_above_zero() -> None:
    # Its mean is zero in whatever form it is added up: thirds are no binary numbers.
    values = np.array([[0.0] * 7 + [1 / 3, 0.1]])
    means = resampled_means(values, 300, 0, "x")
    found = estimate_means(values, QUICK, 0, "x")
    assert (means == 0).any() and found.p_positive == (means > 0).mean()


def test_the_mean_is_of_the_trials_by_hand() -> None:
    found = estimate_means(np.array([[1.0, 2.0, 6.0], [-1.0, 0.0, 1.0]]), QUICK, 0)
    assert found.n == 3
    assert found.mean.tolist() == [3.0, 0.0]


def test_the_standard_error_nears_the_bootstraps() -> None:
    # A bootstrap's divides by n; of B resamples it is off by about 1 / sqrt(2 B).
    values, n_resamples = np.random.default_rng(1).normal(size=(5, 8)), 20_000
    means = resampled_means(values, n_resamples, 0)
    found = estimate_means(values, QUICK, 0)
    np.testing.assert_allclose(found.se * np.sqrt(7 / 8), means.std(1), rtol=5 / np.sqrt(2 * n_resamples))


@light
@given(st.integers(2, FEWEST_TO_RESAMPLE - 1), st.sampled_from(METHODS), st.sampled_from([0.8, 0.95]))
def test_few_values_have_students_interval_whatever_the_method(
    n: int, method: BootstrapMethod, confidence: float
) -> None:
    values = some_values(3, n, seed=n)
    found = estimate_means(values, StatsConfig(confidence=confidence, method=method), 0)
    due = ttest_1samp(values, 0, axis=1)
    ends = due.confidence_interval(confidence)
    np.testing.assert_allclose([found.ci_low, found.ci_high], [ends.low, ends.high], rtol=1e-9)
    np.testing.assert_allclose(found.p_positive, 1 - ttest_1samp(values, 0, axis=1, alternative="greater").pvalue)


@pytest.mark.parametrize("method", METHODS)
def test_a_single_trial_has_a_mean_and_no_interval(method: BootstrapMethod) -> None:
    found = estimate_means(np.array([[2.5], [-1.0]]), replace(QUICK, method=method), 0)
    assert (found.n, found.mean.tolist()) == (1, [2.5, -1.0])
    assert np.isnan([found.se, found.ci_low, found.ci_high, found.p_positive]).all()


@light
@given(st.floats(-1e6, 1e6), st.integers(2, 9), st.sampled_from(METHODS))
def test_equal_values_have_an_interval_of_no_width(value: float, n: int, method: BootstrapMethod) -> None:
    found = estimate_means(np.full((1, n), value), replace(QUICK, method=method), 0)
    assert found.se.tolist() == [0.0]
    assert found.ci_low == found.ci_high == found.mean
    assert found.p_positive == float(value > 0)


@pytest.mark.parametrize("method", METHODS)
def test_values_that_differ_by_rounding_have_finite_intervals(method: BootstrapMethod) -> None:
    found = estimate_means(np.array([[0.1] * 7 + [0.1 + 2**-56 * 2]]), replace(QUICK, method=method), 0)
    assert np.isfinite([found.se, found.ci_low, found.ci_high]).all()
    np.testing.assert_allclose([found.ci_low, found.ci_high], 0.1, rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_last_bit_moves_no_interval(method: BootstrapMethod) -> None:
    # A resample of the sample's own values must not count as below or above it; nor must one of other values with the
    # same mean, as thirds have many.
    values = np.concatenate([some_values(30, 8), np.random.default_rng(0).integers(0, 4, (30, 8)) / 3])
    one, other = (estimate_means(v, replace(QUICK, method=method), 0) for v in (values, np.nextafter(values, np.inf)))
    np.testing.assert_allclose([one.ci_low, one.ci_high], [other.ci_low, other.ci_high], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "values", [np.zeros((2, 0)), np.array([[1.0, np.nan]]), np.array([[0.0, 1.0], [1.0, np.inf]]), np.array([[np.nan]])]
)
def test_no_trials_and_values_that_are_not_finite_are_refused(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=f"{len(values)} series of {values.shape[1]} trials"):
        estimate_means(values, QUICK, 0)


def test_series_are_resampled_together_so_that_differences_are_paired() -> None:
    # The second is the first plus a hundredth of its own noise: unpaired, the difference would be a hundred times
    # less certain.
    one, noise = some_values(2, 12)
    other = one + 0.01 * noise
    found = estimate_means(np.stack([one, other, other - one]), PERCENTILE, 0, "x")
    means = resampled_means(np.stack([one, other]), 300, 0, "x")
    paired = means[1] - means[0]
    ends = [quantile(paired, tail) for tail in tails_of(0.95, 12)]
    low, high = np.array(ends)
    due = farther(low, high, (other - one)[None])
    np.testing.assert_allclose([[found.ci_low[2], found.ci_high[2]]], due, rtol=1e-9)
    assert found.se[2] < 0.05 * found.se[0]


def test_a_shift_moves_the_interval_and_a_factor_stretches_it() -> None:
    one = some_values(1, 9)[0]
    found = estimate_means(np.stack([one, one + 3, -2 * one]), PERCENTILE, 0)
    np.testing.assert_allclose([found.ci_low[1], found.ci_high[1]], [found.ci_low[0] + 3, found.ci_high[0] + 3])
    np.testing.assert_allclose([found.ci_low[2], found.ci_high[2]], [-2 * found.ci_high[0], -2 * found.ci_low[0]])
    np.testing.assert_allclose(found.se[1:], [found.se[0], 2 * found.se[0]])


@pytest.mark.parametrize("method", METHODS)
def test_a_series_estimates_do_not_depend_on_the_others_in_the_call(method: BootstrapMethod) -> None:
    stats, values = replace(QUICK, method=method), some_values(7, 10)
    values[3] = 1.5
    together = estimate_means(values, stats, 0, "x")
    for i, series in enumerate(values):
        assert estimate_means(series[None], stats, 0, "x").of(0) == together.of(i)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("most", [1, 650, 5_000])
def test_how_many_numbers_are_held_at_once_changes_nothing(method: BootstrapMethod, most: int) -> None:
    stats, values = replace(QUICK, method=method), some_values(7, 10)
    whole = bytes_of(estimate_means(values, stats, 0, "x"))
    assert bytes_of(estimate_means(values, stats, 0, "x", most_numbers=most)) == whole


def test_the_same_seed_and_purpose_give_the_same_bytes_and_others_other_resamples() -> None:
    values = some_values(2, 10)
    found = [bytes_of(estimate_means(values, QUICK, *what)) for what in ((0, "x"), (0, "x"), (0, "y"), (1, "x"))]
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize("method", METHODS)
def test_intervals_hold_the_true_mean_about_as_often_as_their_level_says(method: BootstrapMethod) -> None:
    # Of 400 repetitions, four standard deviations are 4 points.
    values = np.random.default_rng(7).normal(3.0, 2.0, size=(400, 20))
    found = estimate_means(values, StatsConfig(n_resamples=1000, method=method), 0)
    held = ((found.ci_low <= 3.0) & (found.ci_high >= 3.0)).mean()
    assert 0.91 <= held <= 0.99


def test_a_lower_level_gives_a_narrower_interval_inside() -> None:
    wide, narrow = (estimate_means(some_values(4, 15), replace(QUICK, confidence=level), 0) for level in (0.95, 0.5))
    assert (wide.ci_low < narrow.ci_low).all() and (narrow.ci_high < wide.ci_high).all()


def test_one_series_is_told_with_none_where_there_is_no_estimate() -> None:
    numbers = [np.array(pair) for pair in ([1.0, 2.0], [0.5, np.nan], [0.0, np.nan], [2.0, np.nan], [1.0, np.nan])]
    found = Estimates(4, *numbers)
    assert found.of(0) == {"mean": 1.0, "se": 0.5, "ci_low": 0.0, "ci_high": 2.0}
    assert found.of(1) == {"mean": 2.0, "se": None, "ci_low": None, "ci_high": None}


# How often intervals hold the truth: the whole table is `python -m benchmarks.coverage`


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 7, 10, 20, 30])
def test_intervals_of_normal_and_skewed_values_cover_as_students_do_or_better(n: int) -> None:
    # Of 2,000 repetitions, four standard errors of .95 are 2 points.
    rng = np.random.default_rng(n)
    spread = np.where(rng.random((2000, n)) < 0.1, 10, 1)
    for values, truth, least in (
        (rng.normal(size=(2000, n)), 0.0, 0.94),
        (rng.standard_t(3, size=(2000, n)), 0.0, 0.94),
        (spread * rng.normal(size=(2000, n)), 0.0, 0.94),
        (rng.exponential(size=(2000, n)), 1.0, None),
    ):
        found = estimate_means(values, StatsConfig(n_resamples=1000), 0)
        held = ((found.ci_low <= truth) & (truth <= found.ci_high)).mean()
        low, high = students(values)
        by_t = ((low <= truth) & (truth <= high)).mean()
        assert held >= (by_t if least is None else least - 0.02)


def test_means_that_a_few_large_values_carry_are_covered_where_the_bootstrap_fails() -> None:
    # On either side, as differences of probabilities over many orders of magnitude have them.
    logs = np.random.default_rng(0).normal(0, 2, size=(2, 2000, 20))
    values, stats = np.exp(logs[0]) - np.exp(logs[1]), StatsConfig(n_resamples=1000)
    low_tail, high_tail = tails_of(0.95, 20)
    level = high_tail - low_tail
    alone = bootstrap((values,), np.mean, axis=-1, n_resamples=1000, confidence_level=level, batch=100, rng=1)
    ends = alone.confidence_interval
    found = estimate_means(values, stats, 0)
    assert ((ends.low <= 0) & (ends.high >= 0)).mean() < 0.91
    assert ((found.ci_low <= 0) & (found.ci_high >= 0)).mean() >= 0.93


@pytest.mark.parametrize("n", [3, 9])
def test_a_spread_too_small_to_square_is_none(n: int) -> None:
    values = np.zeros((1, n))
    values[0, 0] = 1e-284
    found = estimate_means(values, StatsConfig(n_resamples=100), 0, "tiny")
    assert found.ci_low[0] == found.mean[0] == found.ci_high[0] and found.p_positive[0] == 1.0
