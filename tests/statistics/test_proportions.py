"""Intervals of proportions and of their paired differences: against scipy, and how often they hold the truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, multinomial

from fv.config import StatsConfig
from fv.statistics.intervals import Kind, adjusted_wald, clopper_pearson, estimate_means

STATS = StatsConfig()


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_a_proportion_has_the_interval_of_scipys_exact_test(confidence: float) -> None:
    for n in (1, 2, 5, 14, 30):
        values = (np.arange(n) < np.arange(n + 1)[:, None]).astype(float)  # 0 to n of n
        found = estimate_means(values, StatsConfig(confidence=confidence), 0, kind=Kind.proportion)
        due = [binomtest(k, n).proportion_ci(confidence, method="exact") for k in range(n + 1)]
        np.testing.assert_allclose(np.column_stack([found.ci_low, found.ci_high]), due, atol=1e-9)
        np.testing.assert_allclose(found.mean, np.arange(n + 1) / n)


def test_none_of_fourteen_is_not_known_to_be_none() -> None:
    found = estimate_means(np.zeros((1, 14)), STATS, 0, kind=Kind.proportion)
    assert (found.mean[0], found.ci_low[0]) == (0, 0) and found.ci_high[0] == pytest.approx(0.2316, abs=1e-4)


def enumerated(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All counts of (better, worse) among n paired trials, and their differences: (n_cases, 2), (n_cases, n)."""
    counts = np.array([(x, y) for x in range(n + 1) for y in range(n + 1 - x)])
    at = np.arange(n)
    return counts, (at < counts[:, :1]) * 1.0 - ((at >= counts[:, :1]) & (at < counts.sum(1)[:, None]))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 14, 20, 30])
def test_intervals_of_proportions_and_their_paired_differences_cover_what_they_say(n: int) -> None:
    # Exactly, over all outcomes of every probability of a grid.
    p = np.linspace(0.005, 0.995, 199)[:, None]
    low, high = clopper_pearson(np.arange(n + 1), n, 0.95)
    assert (binom.pmf(np.arange(n + 1), n, p) * ((low <= p) & (p <= high))).sum(1).min() >= 0.95
    counts, differences = enumerated(n)
    low, high = adjusted_wald(differences, 0.95)
    mean = differences.mean(1)
    assert ((low <= mean) & (mean <= high) & (low >= -1) & (high <= 1)).all()
    grid = [(a, b) for a in np.linspace(0, 1, 41) for b in np.linspace(0, 1, 41) if a + b <= 1]
    for a, b in grid:
        chances = multinomial.pmf(np.column_stack([counts, n - counts.sum(1)]), n, [a, b, max(0.0, 1 - a - b)])
        covered = (low <= a - b + 1e-12) & (a - b - 1e-12 <= high)
        assert chances[covered].sum() >= 0.93, (a, b)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 12), st.integers(1, 5), st.integers(0, 2**32))
def test_a_difference_of_proportions_averaged_over_draws_is_inside_its_interval(
    n: int, n_draws: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2, (3, n)) - rng.integers(0, 2, (3, n, n_draws)).mean(-1)
    found = estimate_means(values, STATS, 0, kind=Kind.proportion_difference)
    assert ((found.ci_low <= found.mean) & (found.mean <= found.ci_high)).all()
    assert (found.ci_low >= -1).all() and (found.ci_high <= 1).all() and (found.ci_low < found.ci_high).all()


@pytest.mark.parametrize(
    ("kind", "value"), [(Kind.proportion, 0.5), (Kind.proportion, -1.0), (Kind.proportion_difference, 1.5)]
)
def test_values_that_are_none_of_their_kind_are_refused(kind: Kind, value: float) -> None:
    with pytest.raises(ValueError, match="proportion"):
        estimate_means(np.array([[0.0, value]]), STATS, 0, kind=kind)
