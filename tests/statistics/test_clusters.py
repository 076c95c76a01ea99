"""Means over units that are not independent: by hand, against a sandwich estimator, and their coverage."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import StatsConfig
from fv.statistics.clusters import clusters_of, numbered, per_cluster
from fv.statistics.intervals import estimate_means

QUICK = StatsConfig(n_resamples=500)
light = settings(max_examples=30, deadline=None)


def test_parts_of_clusters_by_hand() -> None:
    # The mean of 1, 3, 8 is 4; the differences -3 and -1 are one cluster's, 4 the other's; there are 2 of 3 trials.
    found = per_cluster(np.array([[1.0, 3.0, 8.0]]), np.array(["b", "b", "a"]))
    np.testing.assert_allclose(found, [[4 - 8 / 3, 4 + 8 / 3]])


def test_clusters_of_one_size_have_their_own_means() -> None:
    values = np.random.default_rng(0).normal(size=(3, 12))
    found = per_cluster(values, np.tile([5, 2, 9, 1], 3))
    np.testing.assert_allclose(found, values.reshape(3, 3, 4).mean(1))


@pytest.mark.parametrize("labels", [[4, 3, 9, 0], ["x", "b", "c", "a"]])
def test_trials_that_are_clusters_of_their_own_keep_every_bit(labels: list[object]) -> None:
    values = np.random.default_rng(0).normal(size=(3, 4)) * 1e-3 + 7
    assert per_cluster(values, np.array(labels)).tobytes() == values.tobytes()


@light
@given(st.lists(st.integers(0, 5), min_size=2, max_size=20), st.integers(0, 2**32))
def test_the_mean_is_that_of_trials_and_the_standard_error_is_cluster_robust(labels: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=len(labels))
    parts = per_cluster(values[None], np.array(labels))
    assert parts.mean() == pytest.approx(values.mean())
    kinds = sorted(set(labels))
    if len(kinds) > 1:
        # Liang and Zeger's sandwich for a regression on a constant alone, written out in matrices.
        ones, residuals = np.ones((len(labels), 1)), values - values.mean()
        bread = np.linalg.inv(ones.T @ ones)
        scores = np.array([ones[np.array(labels) == kind].T @ residuals[np.array(labels) == kind] for kind in kinds])
        variance = (bread @ (scores.T @ scores) @ bread).item() * len(kinds) / (len(kinds) - 1)
        assert estimate_means(parts, QUICK, 0).se[0] == pytest.approx(variance**0.5, abs=1e-12)


def test_a_series_parts_do_not_depend_on_the_others_in_the_call() -> None:
    values, labels = np.random.default_rng(1).normal(size=(9, 17)), np.arange(17) % 5
    together = per_cluster(values, labels)
    assert per_cluster(np.asfortranarray(values), labels).tobytes() == together.tobytes()
    for series, parts in zip(values, together, strict=True):
        assert per_cluster(series[None], labels).tobytes() == parts.tobytes()


@pytest.mark.parametrize("labels", [[1, 2], [1, 2, 3, 4], [[1, 2, 3]]])
def test_there_is_one_label_a_trial(labels: list[object]) -> None:
    with pytest.raises(ValueError, match="of 3 trials: one each is due"):
        per_cluster(np.zeros((2, 3)), np.array(labels))


def test_labels_are_numbered_as_they_appear() -> None:
    assert numbered(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
    assert numbered([]).tolist() == []


def test_a_name_without_a_cluster_is_one_of_its_own_even_if_a_cluster_is_called_like_it() -> None:
    names = ["antonym", "country_capital", "country_language", "countries"]
    countries = {"country_capital": "countries", "country_language": "countries"}
    assert clusters_of(names, countries).tolist() == [0, 1, 1, 2]
    assert clusters_of(names, None).tolist() == clusters_of(names, {}).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("repeats", [[3], [1, 2, 3, 4, 5]])
@pytest.mark.parametrize("n_queries", [6, 12])
def test_intervals_by_query_cover_where_intervals_by_trial_are_too_narrow(n_queries: int, repeats: list[int]) -> None:
    # Half of the variance is the query's. Of 1,000 repetitions, two standard errors of .93 are 1.6 points.
    rng = np.random.default_rng([n_queries, *repeats])
    queries = np.repeat(np.arange(n_queries), np.resize(repeats, n_queries))
    values = rng.normal(size=(1000, n_queries))[:, queries] + rng.normal(size=(1000, len(queries)))
    held = []
    for units in (values, per_cluster(values, queries)):
        found = estimate_means(units, QUICK, 0)
        held.append(((found.ci_low <= 0) & (found.ci_high >= 0)).mean())
    by_trial, by_query = held
    assert by_trial < 0.88 and by_query >= (0.93 if len(repeats) == 1 else 0.91) - 0.016
