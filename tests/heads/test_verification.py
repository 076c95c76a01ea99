"""Heads that a screened run verifies: which they are, why, and that a wider choice only adds to them."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fv.heads.verification import Chosen, estimated_ranking, mean_score, random_in_top, verified_heads
from fv.interventions.engine import Head

N_LAYERS, N_HEADS = 4, 5
ALL = [Head(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
SCORES = st.dictionaries(
    st.sampled_from("abc"),
    arrays(np.float64, (N_LAYERS, N_HEADS), elements=st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0])),
    min_size=1,
)
COUNTS = st.integers(1, 24)


def ranked_by_hand(score: np.ndarray) -> list[Head]:
    return sorted(ALL, key=lambda head: (-score[head], head))


@given(SCORES, COUNTS, COUNTS, st.integers(0, 9))
def test_the_best_and_the_most_negative_of_every_ranking_and_so_many_others_are_verified(
    scores: dict[str, np.ndarray], verify: int, n_random: int, seed: int
) -> None:
    rankings = [ranked_by_hand(own) for own in (*scores.values(), mean_score(scores))]
    best = {*chain.from_iterable(ranking[:verify] for ranking in rankings)}
    lowest = {*chain.from_iterable(ranking[::-1][: (verify + 3) // 4] for ranking in rankings)} - best
    found = verified_heads(scores, verify, n_random, seed)
    assert {head for head, why in found.items() if why is Chosen.best} == best
    assert {head for head, why in found.items() if why is Chosen.negative} == lowest
    n_others = len(ALL) - len(best | lowest)
    assert sum(why is Chosen.random for why in found.values()) == min(n_random, n_others)
    assert list(found) == sorted(found)


@given(SCORES, COUNTS, COUNTS, st.integers(0, 9), st.integers(0, 12), st.integers(0, 12))
def test_more_verified_heads_hold_those_of_fewer(
    scores: dict[str, np.ndarray], verify: int, n_random: int, seed: int, more: int, more_random: int
) -> None:
    few = verified_heads(scores, verify, n_random, seed)
    many = verified_heads(scores, verify + more, n_random + more_random, seed)
    assert few.keys() <= many.keys()
    assert all(many[head] is Chosen.best for head, why in few.items() if why is Chosen.best)


@given(SCORES, COUNTS, COUNTS)
def test_heads_without_a_score_are_not_verified(scores: dict[str, np.ndarray], verify: int, n_random: int) -> None:
    left_out = [Head(1, head) for head in range(N_HEADS)]
    for own in scores.values():
        own[1] = np.nan
    found = verified_heads(scores, verify, n_random, 0)
    assert not found.keys() & {*left_out}
    assert verified_heads(scores, len(ALL), 0, 0).keys() == {*ALL} - {*left_out}


@given(arrays(np.float64, (N_LAYERS, N_HEADS), elements=st.integers(-2, 2).map(float)))
def test_estimates_rank_heads_by_score_then_place(score: np.ndarray) -> None:
    assert estimated_ranking(score) == ranked_by_hand(score)


def test_random_heads_are_drawn_evenly_from_all_that_no_score_chooses() -> None:
    score = np.arange(20.0).reshape(N_LAYERS, N_HEADS)
    n_seeds, n_random = 2000, 3
    drawn = [
        head
        for seed in range(n_seeds)
        for head, why in verified_heads({"a": score}, 4, n_random, seed).items()
        if why is Chosen.random
    ]
    others = [head for head in ALL if 1 <= score[head] < 16]  # less one at the low and four at the high end
    counts = np.array([drawn.count(head) for head in others])
    assert counts.sum() == len(drawn) == n_seeds * n_random
    assert counts / n_seeds == pytest.approx(n_random / len(others), abs=0.05)


def test_a_random_head_in_the_top_is_told_apart() -> None:
    verified = {Head(0, 0): Chosen.best, Head(0, 1): Chosen.random, Head(2, 2): Chosen.negative}
    assert random_in_top(verified, [Head(0, 0), Head(0, 1)]) == [Head(0, 1)]
    assert random_in_top(verified, [Head(0, 0), Head(2, 2)]) == []
