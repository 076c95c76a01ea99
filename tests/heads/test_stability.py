"""How stable a ranking is: against brute-force resampling, and where the answer is known."""

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from fv.config import ScoreConfig, StatsConfig
from fv.config.score import ScoreKey
from fv.heads.indirect_effect import TrialEffects, cie_stats
from fv.heads.stability import (
    FEWEST_TRIALS,
    N_DRAWS,
    convergence,
    effects_of,
    gap_at,
    inclusion,
    is_stable,
    mean_scores,
    other_half_means,
    ranked,
    stability_report,
    with_other_halves,
)
from fv.seeding import generator_for
from fv.statistics.intervals import estimate_means

QUICK = StatsConfig(n_resamples=200)
light = settings(max_examples=25, deadline=None)


def noisy(n_trials: int, n_heads: int, signal: float = 1.0, seed: int = 0) -> np.ndarray:
    """Effects whose expectation falls from the first head to the last, `signal` a head, in noise of 1."""
    noise = np.random.default_rng(seed).normal(size=(n_trials, n_heads))
    return noise + signal * np.arange(n_heads)[::-1]


def top(scores: np.ndarray, k: int) -> list[int]:
    """By sorting Python numbers."""
    return sorted(range(len(scores)), key=lambda head: (-scores[head], head))[:k]


@light
@given(st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]), min_size=1, max_size=9))
def test_heads_are_ranked_by_score_and_ties_by_position(scores: list[float]) -> None:
    assert ranked(np.array(scores)).tolist() == top(np.array(scores), len(scores))


def test_each_row_is_ranked_by_itself() -> None:
    assert ranked(np.array([[1.0, 3.0, 2.0], [0.0, 0.0, 1.0]])).tolist() == [[1, 2, 0], [2, 0, 1]]


def test_the_scores_of_several_relations_are_the_mean_of_their_means() -> None:
    # Means (1, 4) of two trials and (5, 0) of three: relations weigh the same, whatever their trials.
    one, other = np.array([[0.0, 4.0], [2.0, 4.0]]), np.array([[5.0, -1.0], [5.0, 0.0], [5.0, 1.0]])
    assert mean_scores([one, other]).tolist() == [3.0, 2.0]


# Inclusion


def test_a_head_that_is_best_in_every_trial_is_always_included() -> None:
    effects = noisy(8, 5, signal=0)
    effects[:, 3] = effects.max(1) + 0.1
    chances = inclusion([effects], 1, 200, 0)
    assert chances.tolist() == [0, 0, 0, 1, 0]


@pytest.mark.parametrize("k", [1, 2, 5])
def test_chances_of_all_heads_sum_to_k(k: int) -> None:
    assert inclusion([noisy(6, 5, 0.1)], k, 150, 0).sum() == pytest.approx(k)


def test_two_exchangeable_heads_share_the_last_place() -> None:
    # Each is better by the same amount in half of the trials; with an odd number of trials there is no draw.
    sign = np.array([1, -1] * 200 + [1])
    chances = inclusion([np.stack([np.full(401, 9.0), sign, -sign], 1)], 2, 4000, 0)
    assert chances[0] == 1
    # Head 1 wins where a Binomial(401, 201 / 401) is above 200: 0.52. Four standard errors are 0.032.
    assert chances[1] == pytest.approx(0.52, abs=0.032)
    assert chances[1] + chances[2] == pytest.approx(1)


def test_inclusion_is_the_share_of_all_possible_resamples() -> None:
    # Four trials have 4 ** 4 = 256 equally likely resamples.
    effects, k = noisy(4, 5, 0.4), 2
    counts = np.zeros(5)
    for drawn in product(range(4), repeat=4):
        counts[top(effects[list(drawn)].mean(0), k)] += 1
    exact, n = counts / 256, 20_000
    assert 0.05 < exact[1] < 0.95
    np.testing.assert_allclose(inclusion([effects], k, n, 0), exact, atol=4 * 0.5 / np.sqrt(n))


def test_trials_are_drawn_within_each_relation() -> None:
    effects, k, n = [noisy(3, 4, 0.3, 1), noisy(7, 4, 0.3, 2)], 2, 8000
    rng, counts = np.random.default_rng(9), np.zeros(4)
    for _ in range(n):
        means = [values[rng.integers(0, len(values), len(values))].mean(0) for values in effects]
        counts[top((means[0] + means[1]) / 2, k)] += 1
    # Two estimates from n resamples each.
    np.testing.assert_allclose(inclusion(effects, k, n, 0), counts / n, atol=4 * np.sqrt(2) * 0.5 / np.sqrt(n))


def test_chances_are_drawn_by_seed_and_purpose() -> None:
    effects = [noisy(6, 8, 0.1)]
    found = [inclusion(effects, 3, 100, *what).tolist() for what in ((0, "x"), (0, "x"), (0, "y"), (1, "x"))]
    assert found[0] == found[1]
    assert len({tuple(chances) for chances in found}) == 3


# Convergence


def test_all_trials_agree_with_themselves_and_have_no_second_set() -> None:
    last = convergence([noisy(9, 12, 0.1)], 4, 0)[-1]
    assert (last.n_trials, last.overlap_with_all) == (9, 1.0)
    assert (last.overlap_apart, last.spearman_apart) == (None, None)


@pytest.mark.parametrize("n", [2, 5, 9, 40])
def test_two_sets_are_compared_exactly_where_twice_the_trials_exist(n: int) -> None:
    curve = convergence([noisy(n, 6, 0.5)], 2, 0)
    sizes = [point.n_trials for point in curve]
    assert sizes == sorted(set(sizes)) and (sizes[0], sizes[-1]) == (2, n)
    assert set(range(2, min(n, 12) + 1)) <= set(sizes)
    assert n < 4 or n // 2 in sizes  # the largest halves
    for point in curve:
        assert (point.overlap_apart is not None) == (point.spearman_apart is not None) == (2 * point.n_trials <= n)


def test_a_single_trial_has_no_curve() -> None:
    assert convergence([noisy(1, 6)], 2, 0) == []


def test_the_first_point_is_what_its_definition_gives() -> None:
    # Two relations, two of their trials against two others, drawn by the generator of the same purpose.
    effects, k = [noisy(4, 6, 0.5, 1), noisy(5, 6, 0.5, 2)], 3
    rng = generator_for(3, "convergence", "x")
    everything = set(top((effects[0].mean(0) + effects[1].mean(0)) / 2, k))
    with_all, apart, correlations, choosing, others = [], [], [], [], []
    for _ in range(N_DRAWS):
        orders = [rng.permutation(len(values)) for values in effects]
        one, other = (
            sum(values[order[part]].mean(0) for values, order in zip(effects, orders, strict=True)) / 2
            for part in (slice(0, 2), slice(2, 4))
        )
        with_all.append(len(everything & set(top(one, k))) / k)
        apart.append(len(set(top(one, k)) & set(top(other, k))) / k)
        correlations.append(np.corrcoef(rankdata(one), rankdata(other))[0, 1])
        choosing.append(one[top(one, k)].mean())
        others.append(other[top(one, k)].mean())
    point = convergence(effects, k, 3, "x")[0]
    assert point.overlap_with_all == pytest.approx(np.mean(with_all))
    assert point.overlap_apart == pytest.approx(np.mean(apart))
    assert point.spearman_apart == pytest.approx(np.mean(correlations))
    assert point.top_mean_choosing == pytest.approx(np.mean(choosing))
    assert point.top_mean_apart == pytest.approx(np.mean(others))


def test_more_signal_and_more_trials_agree_better() -> None:
    curves = [convergence([noisy(24, 20, signal)], 5, 0) for signal in (0.0, 0.1, 1.0)]
    for size in (2, 6, 12):
        points: list[Any] = [next(p for p in curve if p.n_trials == size) for curve in curves]
        none, some, much = points
        assert none.overlap_apart < some.overlap_apart < much.overlap_apart
        assert none.spearman_apart < some.spearman_apart < much.spearman_apart
    points = [next(p for p in curves[1] if p.n_trials == size) for size in (2, 12)]
    few, many = points
    assert few.overlap_apart < many.overlap_apart and few.overlap_with_all < many.overlap_with_all


def test_heads_that_all_have_the_same_effect_correlate_with_nothing() -> None:
    point = convergence([np.ones((6, 4))], 2, 0)[0]
    assert (point.overlap_with_all, point.overlap_apart, point.spearman_apart) == (1.0, 1.0, 0.0)


def test_relations_of_different_size_are_compared_up_to_the_smallest() -> None:
    curve = convergence([noisy(5, 6, 0.2, 1), noisy(11, 6, 0.2, 2)], 2, 0)
    assert [point.n_trials for point in curve] == [2, 3, 4, 5]
    # Five of eleven trials are drawn of the other relation, so that even the last point need not agree with all.
    assert curve[-1].overlap_with_all < 1
    assert [point.overlap_apart is not None for point in curve] == [True, False, False, False]


# What choosing makes of an effect


def test_an_other_half_mean_is_what_its_definition_gives() -> None:
    values = noisy(7, 5, 0.5)
    rng = generator_for(3, "other_half", "x")
    of_place = []
    for _ in range(N_DRAWS):
        order = rng.permutation(7)
        choosing, other = (values[order[part]].mean(0) for part in (slice(0, 3), slice(3, 7)))
        of_place.append([other[head] for head in top(choosing, 5)])
    due = dict(zip(top(values.mean(0), 5), np.mean(of_place, 0), strict=True))
    np.testing.assert_allclose(other_half_means(values, 3, "x"), [due[head] for head in range(5)])


def test_where_no_head_has_an_effect_the_other_halves_find_none() -> None:
    n_runs, n_trials, n_heads = 200, 12, 60
    firsts, others = [], []
    for seed in range(n_runs):
        values = noisy(n_trials, n_heads, signal=0, seed=seed)
        best = top(values.mean(0), 3)
        firsts.append(values.mean(0)[best].mean())
        others.append(other_half_means(values, seed)[best].mean())
    # The mean of the trials that chose is two standard errors of one head; the other halves' is none but for chance.
    assert np.mean(firsts) > 1.5 / np.sqrt(n_trials)
    assert abs(np.mean(others)) < 4 * np.std(others) / np.sqrt(n_runs) < 0.1


def test_where_heads_are_far_apart_the_other_halves_find_each_heads_own_mean() -> None:
    values = noisy(200, 4, signal=5)
    np.testing.assert_allclose(other_half_means(values, 0), values.mean(0), atol=0.05)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_single_trial_has_no_other_half(n: int) -> None:
    assert np.isnan(other_half_means(noisy(n, 4), 0)).all() == (n == 1)


def test_each_relations_heads_have_the_other_halves_of_their_own_effects() -> None:
    effects = {q_id: trial_effects(noisy(6, 4, seed=seed)) for seed, q_id in enumerate("ab")}
    found = with_other_halves(cie_stats(effects, QUICK, 0), effects, 0)
    for (q_id, metric), rows in found.groupby(["q_id", "metric"]):
        due = other_half_means(effects_of(effects[str(q_id)], str(metric)), 0, q_id, metric)
        assert rows["other_half_mean"].tolist() == due.tolist()
        assert rows[["layer", "head"]].to_numpy().tolist() == [[0, 0], [0, 2], [1, 0], [1, 2]]
    assert len(found) == 16


# Gap


def test_a_gap_is_the_kth_head_minus_the_next_with_its_paired_interval() -> None:
    effects = noisy(10, 5, 0.8)
    order = top(effects.mean(0), 5)
    found = gap_at([effects], 2, QUICK, 4, "x")
    below = np.stack([effects[:, order[1]] - effects[:, head] for head in order[2:]])
    expected = estimate_means(below, QUICK, 4, "gap", "x")
    assert found is not None
    assert (found.mean, found.ci_low, found.ci_high) == (expected.mean[0], expected.ci_low[0], expected.ci_high[0])
    assert found.mean == pytest.approx(below[0].mean())
    reaching = [low <= 0 <= high for low, high in zip(expected.ci_low, expected.ci_high, strict=True)]
    assert found.n_within_error == sum(reaching)


def test_a_gap_over_relations_has_its_interval_over_relations() -> None:
    effects = [noisy(n, 4, 1.0, n) for n in (3, 6, 9)]
    means = np.stack([values.mean(0) for values in effects])
    assert gap_at(effects, 1, QUICK, 0) == gap_at([means], 1, QUICK, 0)


def test_heads_apart_are_told_from_heads_within_error() -> None:
    # The second and third are the k-th head plus noise that averages to nearly nothing; the last is far below.
    noise = np.array([0.1, -0.1, 0.1, -0.1, 0.1, -0.11])
    effects = np.stack([noise + 5, np.full(6, 4.0), 4 + 3 * noise, 4 - 3 * noise, noise], 1)
    found = gap_at([effects], 2, QUICK, 0)
    assert found is not None and found.n_within_error == 2


@pytest.mark.parametrize(
    ("effects", "k"),
    [([noisy(6, 3)], 3), ([noisy(6, 3)], 4), ([noisy(1, 3)], 1)],
)
def test_there_is_no_gap_below_the_last_head_or_with_one_trial(effects: list[np.ndarray], k: int) -> None:
    assert gap_at(effects, k, QUICK, 0) is None


# The report and the stop


@pytest.mark.parametrize("n_trials", [[1], [2], [3], [9], [2, 1], [3, 8]])
@pytest.mark.parametrize("of", [lambda n, seed: noisy(n, 6, 0.5, seed), lambda n, seed: np.ones((n, 6))])
def test_a_report_is_json_whatever_the_trials(n_trials: list[int], of: Callable[[int, int], np.ndarray]) -> None:
    effects = [of(n, seed) for seed, n in enumerate(n_trials)]
    report, chances = stability_report(effects, 2, QUICK, 0, "x")
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["n_trials"] == min(n_trials) and chances.shape == (6,)
    assert (report["split_half"] is None) == (min(n_trials) < 4)


def test_a_report_puts_together_inclusion_halves_and_gap() -> None:
    effects, k = [noisy(9, 6, 0.3)], 2
    report, chances = stability_report(effects, k, QUICK, 0, "x")
    assert chances.tolist() == inclusion(effects, k, QUICK.n_resamples, 0, "x").tolist()
    of_top = chances[top(effects[0].mean(0), k)]
    assert report["mean_inclusion"] == pytest.approx(of_top.mean())
    assert report["lowest_inclusion"] == of_top.min() < report["mean_inclusion"]
    assert report["split_half"] == report["convergence"][2] and report["split_half"]["n_trials"] == 4
    assert report["gap"] == vars(gap_at(effects, k, QUICK, 0, "x"))


def trial_effects(values: np.ndarray) -> TrialEffects:
    """Effects (n_trials, 4) as of heads (0, 0), (0, 2), (1, 0), (1, 2) of two layers of three heads."""
    full = np.full((len(values), 2, 3), np.nan)
    full[:, :, [0, 2]] = values.reshape(-1, 2, 2)
    return TrialEffects.read(full, -full, None)


def test_effects_are_of_the_swept_heads_by_layer_and_head_in_the_column_that_ranks() -> None:
    values = noisy(3, 4)
    assert effects_of(trial_effects(values), "mean_delta_logprob").tolist() == values.tolist()
    assert effects_of(trial_effects(values), "mean_delta_p").tolist() == (-values).tolist()


@pytest.mark.parametrize(("n_trials", "stable"), [(1, False), (FEWEST_TRIALS - 1, False), (FEWEST_TRIALS, True)])
def test_a_clear_ranking_is_stable_once_there_are_enough_trials(n_trials: int, stable: bool) -> None:
    clear = np.tile([4.0, 3.0, 2.0, 1.0], (n_trials, 1))
    assert is_stable(trial_effects(clear), ScoreConfig(k=2), 0) is stable


def test_noise_is_not_stable_and_the_threshold_and_the_key_decide() -> None:
    effects = trial_effects(noisy(8, 4, signal=0))
    assert not is_stable(effects, ScoreConfig(k=2, adaptive_inclusion=0.99), 0)
    assert is_stable(effects, ScoreConfig(k=2, adaptive_inclusion=0.5), 0)
    mixed = TrialEffects(
        trial_effects(np.tile([4.0, 3.0, 2.0, 1.0], (8, 1))).delta_logprob, effects.delta_p, None, effects.only
    )
    assert is_stable(mixed, ScoreConfig(k=2, adaptive_inclusion=0.99), 0)
    assert not is_stable(mixed, ScoreConfig(k=2, adaptive_inclusion=0.99, key=ScoreKey.mean_delta_p), 0)
