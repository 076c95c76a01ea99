"""Metrics of next-token scores, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr, softmax
from torch import Tensor

from fv.interventions.engine import TargetScores
from fv.interventions.metrics import (
    cosine,
    is_tied,
    kl_divergence,
    logit_difference,
    majority_accuracy,
    n_agreeing,
    rank_of,
    target_logprob,
)
from fv.interventions.naive import reads_of_logits
from fv.models.prompt import Prompt

light = settings(max_examples=40, deadline=None)
# Multiples of a quarter: exact in every dtype, and ties are common.
logits_of_six = st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=6, max_size=6)

LN = math.log


def answer_logprob(logits: Tensor, answer: list[int]) -> Tensor:
    """Log probability of a whole answer, as the naive engine reads it of logits."""
    return reads_of_logits(logits, Prompt((0,), tuple(answer))).scores.logprob.sum(-1)


def logs(*odds: float) -> Tensor:
    """Logits whose probabilities are as `odds`."""
    return torch.tensor(odds, dtype=torch.float64).log()


def ids(*tokens: int) -> Tensor:
    return torch.tensor(tokens)


def test_a_log_probability_is_the_log_of_the_tokens_share() -> None:
    logits = torch.stack([logs(1, 2, 5), logs(1, 1, 2) + 100])
    torch.testing.assert_close(
        target_logprob(logits, ids(2, 0)), torch.tensor([LN(5 / 8), LN(1 / 4)], dtype=torch.float64)
    )


def test_log_probabilities_keep_the_leading_shape() -> None:
    logits = torch.stack([logs(1, 3), logs(3, 1), logs(1, 1)]).expand(2, 3, 2)
    found = target_logprob(logits, torch.tensor([[0, 0, 0], [1, 1, 1]]))
    expected = [[LN(1 / 4), LN(3 / 4), LN(1 / 2)], [LN(3 / 4), LN(1 / 4), LN(1 / 2)]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_a_rank_counts_the_tokens_that_reach_the_target() -> None:
    logits = torch.tensor([[0.5, 2.0, -1.0, 2.5]] * 4)
    assert rank_of(logits, ids(0, 1, 2, 3)).tolist() == [2, 1, 3, 0]


@light
@given(logits_of_six, st.integers(0, 5), st.sampled_from([torch.float32, torch.bfloat16, torch.float64]))
def test_a_token_tied_for_the_highest_log_probability_is_not_right(
    logits: list[float], target: int, dtype: torch.dtype
) -> None:
    row = torch.tensor([logits], dtype=dtype)
    others = [logit for token, logit in enumerate(row[0].tolist()) if token != target]
    own = float(row[0, target])
    assert int(rank_of(row, ids(target))) == sum(other >= own for other in others)
    assert bool(is_tied(row, ids(target))) == (own == max(others))
    scores = TargetScores.of_logits(row, ids(target))
    assert (scores.correct.item(), scores.tied.item()) == (own > max(others), own == max(others))


def test_a_logit_difference_is_to_the_best_wrong_token() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.5, 9.0], [3.0, -1.0, 0.5, 9.0]])
    for wrong, due in (([1, 2], [-3.0, 2.5]), ([2], [-1.5, 2.5])):
        found = logit_difference(logits, 0, wrong)
        assert found is not None and found.tolist() == due


def test_without_wrong_tokens_there_is_no_logit_difference() -> None:
    assert logit_difference(torch.zeros(2, 3, 5), 1, []) is None


@light
@given(logits_of_six, st.integers(0, 5), st.sets(st.integers(0, 5), min_size=1))
def test_a_logit_difference_is_above_zero_where_the_target_alone_is_the_best_candidate(
    logits: list[float], target: int, others: set[int]
) -> None:
    wrong = sorted(others - {target})
    assume(wrong)
    found = float(logit_difference(torch.tensor(logits), target, wrong) or 0)
    candidates = sorted([target, *wrong], key=lambda token: -logits[token])
    alone = candidates[0] == target and logits[candidates[1]] < logits[target]
    tied = logits[target] == max(logits[token] for token in wrong)
    assert (found > 0, found == 0) == (alone, tied)


def test_an_answers_log_probability_is_the_sum_over_its_tokens() -> None:
    # Two edits; what comes after the answer's two tokens is never looked at.
    first = torch.stack([logs(1, 2, 5), logs(1, 3, 1), logs(7, 1, 1)])
    second = torch.stack([logs(1, 1, 2), logs(2, 1, 1), logs(1, 1, 1)])
    found = answer_logprob(torch.stack([first, second]), [2, 1])
    torch.testing.assert_close(found, torch.tensor([LN(5 / 8 * 3 / 5), LN(2 / 4 * 1 / 4)], dtype=torch.float64))


def test_a_one_token_answer_is_as_likely_as_its_token() -> None:
    logits = torch.randn(4, 3, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(answer_logprob(logits, [5]), target_logprob(logits[:, 0], ids(5, 5, 5, 5)).double())


@pytest.mark.parametrize(
    ("greedy", "answer", "expected"),
    [
        ([7, 8, 9], [7, 8], 2),
        ([7, 8], [7, 8], 2),
        ([7, 0, 9], [7, 8], 1),
        ([0, 8, 9], [7, 8], 0),
        # A later agreement does not count: greedy decoding is not there any more.
        ([7, 0, 9, 1], [7, 8, 9], 1),
        ([4], [], 0),
    ],
)
def test_tokens_agree_until_the_first_that_differs(greedy: list[int], answer: list[int], expected: int) -> None:
    assert n_agreeing(greedy, answer) == expected


def test_a_divergence_by_hand() -> None:
    # Fair coin against 1 : 3, and the other way round.
    fair, biased = logs(1, 1), logs(1, 3)
    forward = 0.5 * LN(0.5 / 0.25) + 0.5 * LN(0.5 / 0.75)
    backward = 0.25 * LN(0.25 / 0.5) + 0.75 * LN(0.75 / 0.5)
    assert float(kl_divergence(fair, biased)) == pytest.approx(forward, rel=1e-12)
    assert float(kl_divergence(biased, fair)) == pytest.approx(backward, rel=1e-12)


@light
@given(logits_of_six, logits_of_six)
def test_a_divergence_is_the_sum_of_relative_entropies_and_never_negative(
    before: list[float], after: list[float]
) -> None:
    found = kl_divergence(torch.tensor(before), torch.tensor(after))
    expected = rel_entr(softmax(np.array(before)), softmax(np.array(after))).sum()
    assert found.dtype == torch.float64
    assert float(found) >= 0
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@light
@given(logits_of_six, st.integers(-8, 8))
def test_a_distribution_does_not_diverge_from_itself_whatever_its_offset(logits: list[float], offset: int) -> None:
    row = torch.tensor(logits)
    assert float(kl_divergence(row, row)) == 0
    assert float(kl_divergence(row, row + offset)) == pytest.approx(0, abs=1e-12)


def test_one_distribution_is_compared_with_every_edit() -> None:
    generator = torch.Generator().manual_seed(0)
    before, after = torch.randn(1, 9, generator=generator), torch.randn(5, 9, generator=generator)
    one_by_one = torch.stack([kl_divergence(before[0], row) for row in after])
    torch.testing.assert_close(kl_divergence(before, after), one_by_one, rtol=1e-12, atol=0)


def test_a_token_that_both_sides_all_but_exclude_costs_nothing() -> None:
    row = torch.tensor([0.0, 0.0, -1e4])
    assert float(kl_divergence(row, torch.tensor([0.0, 0.0, -2e4]))) == 0


@pytest.mark.parametrize(
    ("seen", "asked", "expected"),
    [
        (["a", "b", "b"], ["b", "a", "b", "c"], 0.5),
        (["a", "b"], ["b", "a", "b"], 1 / 3),  # equally many: the first
        (["b", "a"], ["b", "a", "b"], 2 / 3),
        (["c"], ["a"], 0.0),
        ([(1, 2), (1, 2), (1,)], [(1, 2)], 1.0),
    ],
)
def test_the_majority_is_the_most_frequent_seen_output_and_the_first_of_ties(
    seen: list[object], asked: list[object], expected: float
) -> None:
    assert majority_accuracy(seen, asked) == pytest.approx(expected)


@pytest.mark.parametrize(("seen", "asked"), [([], ["a"]), (["a"], []), ([], [])])
def test_there_is_no_majority_of_nothing(seen: list[str], asked: list[str]) -> None:
    with pytest.raises(ValueError, match="both sides"):
        majority_accuracy(seen, asked)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 1.0),
        ([3.0, 4.0], [-6.0, -8.0], -1.0),
        ([3.0, 4.0], [4.0, -3.0], 0.0),
        ([1.0, 0.0], [1.0, 1.0], 1 / math.sqrt(2)),
        ([1.0, 2.0, 2.0], [2.0, 1.0, 2.0], 8 / 9),
        ([0.0, 0.0], [1.0, 1.0], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
    ],
)
def test_a_cosine_by_hand(one: list[float], other: list[float], expected: float) -> None:
    assert cosine(torch.tensor(one), torch.tensor(other)) == pytest.approx(expected, abs=1e-15)


def test_a_cosine_is_computed_in_double_precision() -> None:
    # In float16 the product of the norms, 360,000, would overflow.
    vector = torch.full((4,), 300.0, dtype=torch.float16)
    assert cosine(vector, vector) == pytest.approx(1.0)
