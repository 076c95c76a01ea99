"""Scores of target tokens: of whole logits, and streamed in tiles."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sweep_checks import assert_close, seeds

from fv.interventions import readout
from fv.interventions.engine import TargetScores
from fv.interventions.readout import Tile
from fv.models.language_model import LanguageModel

# Scores


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 6), width=st.integers(1, 40), scale=st.sampled_from([0.01, 1.0, 30.0]), seed=seeds)
def test_scores_are_those_of_a_softmax(rows: int, width: int, scale: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, width, generator=rng)
    targets = torch.randint(0, width, (rows,), generator=rng)
    scores = TargetScores.of_logits(logits, targets)
    for i, target in enumerate(targets.tolist()):
        assert float(scores.logprob[i]) == pytest.approx(float(logits[i].double().log_softmax(0)[target]), abs=2e-5)
        assert float(scores.p[i]) == pytest.approx(float(logits[i].double().softmax(0)[target]), abs=2e-5)
        assert bool(scores.correct[i]) == (int(logits[i].argmax()) == target)
        assert logits[i].argsort(descending=True)[scores.rank[i]] == target


def test_a_target_tied_for_the_top_is_no_right_answer() -> None:
    scores = TargetScores.of_logits(torch.tensor([[1.0, 3.0, 3.0, 0.0]] * 2), torch.tensor([2, 0]))
    assert scores.correct.tolist() == [False, False]
    assert scores.tied.tolist() == [True, False]


def test_joined_scores_keep_their_order() -> None:
    parts = [
        TargetScores(torch.tensor([-1.0 * i, -2.0 * i]).double(), torch.tensor([i, 2 * i]), torch.tensor([False, True]))
        for i in range(3)
    ]
    joined = TargetScores.cat(parts).reshape(3, 2)
    assert joined[1].logprob.tolist() == [-1.0, -2.0]
    assert joined[:, 1].rank.tolist() == [0, 2, 4]
    assert joined[:, 1].tied.all() and not joined[:, 0].tied.any()


# Streamed


@pytest.mark.parametrize("width", [1, 1000, 50_000, 2**21])
@pytest.mark.parametrize("scale", [0.1, 1.0, 40.0])
def test_tiles_give_the_scores_of_whole_logits(tiny_lm: LanguageModel, width: int, scale: float) -> None:
    rng = torch.Generator().manual_seed(0)
    rows = scale * torch.randn(37, tiny_lm.d_model, generator=rng)
    targets = torch.randint(0, tiny_lm.vocabulary, (37,), generator=rng)
    if width == 1:  # one column at a time takes a second: a few rows are enough
        rows, targets = rows[:2], targets[:2]
    whole = TargetScores.of_logits(tiny_lm.unembedding(tiny_lm.final_norm(rows)), targets)
    tile = Tile(logits=40 * width)
    found = readout.target_scores(tiny_lm, rows, targets, tile)
    assert_close(found, whole)
    assert torch.equal(readout.target_logprobs(tiny_lm, rows, targets, tile), found.logprob)


def test_more_rows_than_a_tile_holds_keep_their_order(tiny_lm: LanguageModel) -> None:
    rows = torch.randn(23, tiny_lm.d_model, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(23) * 1000
    whole = TargetScores.of_logits(tiny_lm.unembedding(tiny_lm.final_norm(rows)), targets)
    assert_close(readout.target_scores(tiny_lm, rows, targets, Tile(rows=5)), whole)


def test_the_likeliest_token_has_rank_zero_whatever_the_tile(tiny_lm: LanguageModel) -> None:
    rows = torch.randn(9, tiny_lm.d_model, generator=torch.Generator().manual_seed(2))
    best = tiny_lm.unembedding(tiny_lm.final_norm(rows)).argmax(-1)
    for tile in (2**10, 2**15, 2**21):
        assert readout.target_scores(tiny_lm, rows, best, Tile(logits=tile)).correct.all()


def test_a_bias_of_the_unembedding_counts(tiny_lm: LanguageModel) -> None:
    lm = replace(tiny_lm, model=deepcopy(tiny_lm.model))
    head = lm.unembedding
    head.bias = torch.nn.Parameter(torch.linspace(-3, 3, lm.vocabulary), requires_grad=False)
    rows, targets = torch.randn(4, lm.d_model), torch.tensor([0, 17, 4000, lm.vocabulary - 1])
    with torch.no_grad():
        whole = TargetScores.of_logits(head(lm.final_norm(rows)), targets)
        assert_close(readout.target_scores(lm, rows, targets), whole)


# Best tokens, single logits, divergences


def with_twins(lm: LanguageModel) -> LanguageModel:
    """A copy of a model in which every token from 3,000 on is unembedded as the one 3,000 before it: ties."""
    copy = replace(lm, model=deepcopy(lm.model))
    with torch.no_grad():
        weight = copy.unembedding.weight
        weight[3000:6000] = weight[:3000]
    return copy


@pytest.mark.parametrize("tile", [Tile(logits=n) for n in (2**10, 2**15, 2**21)], ids=str)
def test_the_best_token_is_the_first_of_equally_likely_ones_whatever_the_tile(
    tiny_lm: LanguageModel, tile: Tile
) -> None:
    lm = with_twins(tiny_lm)
    rows = torch.randn(9, lm.d_model, generator=torch.Generator().manual_seed(3))
    logits = lm.unembedding(lm.final_norm(rows))
    best = logits.argmax(-1)
    found = readout.best_tokens(lm, rows, tile)
    assert torch.equal(found.token, best) and found.finite.all()
    assert torch.equal(found.tied, (logits == logits.amax(-1, keepdim=True)).sum(-1) > 1)
    targets = torch.where(torch.arange(9) % 2 == 0, best, 17)
    read = readout.read_tokens(lm, rows, targets, tile)
    assert torch.equal(read.best, best)
    assert_close(read.scores, TargetScores.of_logits(logits, targets))
    assert torch.equal(read.scores.logprob, readout.target_logprobs(lm, rows, targets, tile))
    ids = torch.tensor([5, 3005, 900])
    torch.testing.assert_close(readout.logits_at(lm, rows, ids), logits[:, ids], rtol=0, atol=2e-5)


def test_no_rows_have_no_best_tokens(tiny_lm: LanguageModel) -> None:
    found = readout.best_tokens(tiny_lm, torch.empty(0, tiny_lm.d_model))
    assert [part.tolist() for part in found] == [[], [], []]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tile", [Tile(logits=n) for n in (2**10, 2**21)], ids=str)
def test_equal_logits_are_ties_whatever_the_tile(tiny_lm: LanguageModel, tile: Tile, dtype: torch.dtype) -> None:
    lm = replace(tiny_lm, model=deepcopy(tiny_lm.model).to(dtype))
    lm.unembedding.weight[:] = 0
    rows, targets = torch.randn(3, lm.d_model, dtype=dtype), torch.tensor([0, 17, lm.vocabulary - 1])
    scores, best = readout.read_tokens(lm, rows, targets, tile)
    assert scores.tied.all() and not scores.correct.any() and (scores.rank == lm.vocabulary - 1).all()
    assert (best == 0).all() and readout.best_tokens(lm, rows, tile).tied.all()


def test_in_few_bits_ranks_are_those_of_whole_logits(tiny_lm: LanguageModel) -> None:
    lm = replace(tiny_lm, model=deepcopy(tiny_lm.model).bfloat16())
    rows = torch.randn(40, lm.d_model, generator=torch.Generator().manual_seed(5)).bfloat16()
    logits = lm.unembedding(lm.final_norm(rows))
    order = logits.argsort(descending=True)
    for place in range(3):
        due = TargetScores.of_logits(logits, order[:, place])
        found = readout.target_scores(lm, rows, order[:, place])
        # A product summed in another order is rounded to the neighbour now and then.
        assert (found.rank == due.rank).float().mean() > 0.9 and (found.tied == due.tied).float().mean() > 0.9


@pytest.mark.parametrize("tile", [Tile(logits=n) for n in (2**10, 2**21)], ids=str)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_logit_that_is_not_finite_is_seen_in_whatever_tile(tiny_lm: LanguageModel, tile: Tile, bad: float) -> None:
    rows = torch.randn(2, tiny_lm.d_model)
    for token in (0, 5000, tiny_lm.vocabulary - 1):
        lm = replace(tiny_lm, model=deepcopy(tiny_lm.model))
        lm.unembedding.weight[token] = bad
        assert not readout.target_logprobs(lm, rows, torch.tensor([3, 4]), tile).isfinite().any()
        assert not readout.best_tokens(lm, rows, tile).finite.any()
        assert not readout.divergences(lm, rows[:1], rows, tile).isfinite().any()


@pytest.mark.parametrize("tile", [Tile(logits=n) for n in (2**10, 2**21)], ids=str)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_a_divergence_is_that_of_whole_distributions(tiny_lm: LanguageModel, tile: Tile, scale: float) -> None:
    rng = torch.Generator().manual_seed(4)
    own = torch.randn(1, tiny_lm.d_model, generator=rng)
    rows = torch.cat([own, own + scale * torch.randn(5, tiny_lm.d_model, generator=rng)])
    found = readout.divergences(tiny_lm, own, rows, tile)
    p, *others = tiny_lm.unembedding(tiny_lm.final_norm(torch.cat([own, rows]))).double().log_softmax(-1)
    due = torch.stack([(p.exp() * (p - q)).sum() for q in others])
    torch.testing.assert_close(found, due, rtol=1e-4, atol=1e-9)
    assert found[0] == pytest.approx(0, abs=1e-9) and (found >= 0).all() and found[1:].min() > 1e-9
