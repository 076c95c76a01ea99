"""p-values adjusted for many tests: by brute force, against scipy, and on data where there is nothing to find."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test, ttest_1samp

from fv.statistics.multiplicity import holm, q_values, sign_flip_max_t, two_sided_t

light = settings(max_examples=40, deadline=None)
some_p = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 0.01, 0.02, 0.04, 1.0]), min_size=1, max_size=12)


# Student's t


@pytest.mark.parametrize("n", [2, 3, 12])
def test_p_of_a_mean_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).normal(0.5, size=(20, n))
    np.testing.assert_allclose(two_sided_t(values), ttest_1samp(values, 0, axis=1).pvalue, rtol=1e-9)


def test_values_without_spread_are_zero_or_certain() -> None:
    assert two_sided_t(np.array([[0.0] * 3, [0.1] * 3, [-0.1] * 3])).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("test", [two_sided_t, lambda values: sign_flip_max_t(values, 0)])
def test_fewer_than_two_units_have_no_p(test: Callable[[np.ndarray], np.ndarray]) -> None:
    for values in (np.ones((3, 1)), np.ones((3, 0))):
        assert np.isnan(test(values)).all() and test(values).shape == (3,)


# Benjamini and Hochberg


def stepped_up(p: list[float], n_tests: int) -> list[float]:
    """The smallest level at which Benjamini and Hochberg's own procedure, of 1995, discovers each test."""
    ordered = sorted([*p, *[1.0] * (n_tests - len(p))])
    levels = [ordered[i] * n_tests / (i + 1) for i in range(n_tests)]
    return [min(1.0, min(level for level, of in zip(levels, ordered, strict=True) if of >= one)) for one in p]


@light
@given(some_p, st.integers(0, 30))
def test_q_values_are_those_of_the_procedure_with_unmeasured_tests_in_the_family(p: list[float], more: int) -> None:
    n_tests = len(p) + more
    np.testing.assert_allclose(q_values(np.array(p), n_tests), stepped_up(p, n_tests), rtol=1e-12)
    np.testing.assert_array_equal(q_values(np.array(p)), q_values(np.array(p), len(p)))


def test_a_larger_family_makes_less_certain_and_a_smaller_one_than_there_is_is_refused() -> None:
    p = np.array([0.001, 0.2])
    np.testing.assert_allclose(q_values(p, 100), [0.1, 1.0])
    with pytest.raises(ValueError, match="n_tests=1 of 2 tests"):
        q_values(p, 1)


@pytest.mark.parametrize("adjust", [q_values, holm])
def test_a_missing_p_stays_missing_and_counts_as_a_test(adjust: Callable[[np.ndarray], np.ndarray]) -> None:
    found = adjust(np.array([np.nan, 0.01, 0.5]))
    assert np.isnan(found).tolist() == [True, False, False]
    assert found[1:].tolist() == adjust(np.array([1.0, 0.01, 0.5]))[1:].tolist()
    assert adjust(np.array([])).shape == (0,)


def test_false_discoveries_are_as_rare_as_the_level_says() -> None:
    # Fifty heads of which ten have an effect; the expected share of false ones is 0.2 x 40 / 50.
    shares = []
    for seed in range(400):
        values = np.random.default_rng(seed).normal(size=(50, 12))
        values[:10] += 1.2
        found = q_values(two_sided_t(values)) < 0.2
        shares.append(found[10:].sum() / max(1, found.sum()))
    assert np.mean(shares) == pytest.approx(0.16, abs=3 * np.std(shares) / 400**0.5)


# Holm


@light
@given(some_p)
def test_holm_is_bonferroni_over_all_families_that_hold_a_test(p: list[float]) -> None:
    # The closed test: the largest Bonferroni p over every set of tests that a test is in.
    sets = [[i for i, taken in enumerate(bits) if taken] for bits in product([0, 1], repeat=min(len(p), 8))]
    p = p[:8]
    due = [max(min(1.0, len(own) * min(p[j] for j in own)) for own in sets if i in own) for i in range(len(p))]
    np.testing.assert_allclose(holm(np.array(p)), due, rtol=1e-12)


# The largest |t| under flips


def by_brute_force(values: np.ndarray) -> np.ndarray:
    """All flips of the units, each t by scipy."""

    def t(flipped: np.ndarray) -> np.ndarray:
        return np.abs(ttest_1samp(flipped, 0, axis=1).statistic)

    largest = np.array([t(values * signs).max() for signs in product([1, -1], repeat=values.shape[1])])
    return np.array([(largest >= own - 1e-9).mean() for own in t(values)])


@pytest.mark.parametrize("n", [2, 5, 8])
def test_an_adjusted_p_is_the_share_of_all_flips_whose_largest_t_is_no_smaller(n: int) -> None:
    values = np.random.default_rng(n).normal(0.6, size=(7, n)) * 10.0 ** np.arange(-3, 4)[:, None]
    found = sign_flip_max_t(values, 0)
    np.testing.assert_allclose(found, by_brute_force(values), rtol=1e-12)
    assert found.min() >= 2 / 2**n


def test_the_p_of_a_single_series_is_scipys_permutation_test() -> None:
    values = np.random.default_rng(3).normal(0.4, size=9)
    due = permutation_test((values,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert sign_flip_max_t(values[None], 0)[0] == pytest.approx(due)


def test_random_flips_near_all_of_them_and_are_drawn_by_seed_and_purpose() -> None:
    values = np.random.default_rng(5).normal(0.5, size=(6, 12))
    every = sign_flip_max_t(values, 0)
    some = [sign_flip_max_t(values, *what, n_flips=4000) for what in ((0, "x"), (0, "x"), (0, "y"), (1, "x"))]
    for found in some:
        np.testing.assert_allclose(found, every, atol=4 * 0.5 / 4000**0.5)
    assert some[0].tolist() == some[1].tolist()
    assert len({tuple(found) for found in some}) == 3


def test_no_random_flip_makes_a_p_of_zero() -> None:
    assert sign_flip_max_t(np.ones((1, 40)), 0, n_flips=99).tolist() == [0.01]


def test_a_series_of_noughts_has_a_p_of_one_and_scale_does_not_matter() -> None:
    values = np.random.default_rng(1).normal(0.5, size=(3, 7))
    values[1] = 0
    found = sign_flip_max_t(values, 0)
    assert found[1] == 1.0
    np.testing.assert_array_equal(found, sign_flip_max_t(values * [[1e-200], [1], [1e200]], 0))


def test_where_nothing_has_an_effect_the_smallest_p_holds_its_level_and_loses_little() -> None:
    # Thirty series that share a part: Bonferroni would find less than the level allows. Four standard errors of .1 of
    # 1,000 repetitions are 3.8 points.
    smallest = []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        values = rng.standard_t(3, size=(30, 9)) + 2 * rng.standard_t(3, size=9)
        smallest.append(sign_flip_max_t(values, seed).min())
    assert np.mean(np.array(smallest) <= 0.1) == pytest.approx(0.1, abs=0.038)
