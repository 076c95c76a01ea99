"""Refits: vectors of resampled fit trials, whose heads, means and spread are those of the trials drawn."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from families import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import TemplateConfig
from fv.data.origin import Origin
from fv.heads.activations import PromptOutputs, RelationMeans, mean_over_prompts
from fv.heads.effects import Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.refits import Refit, refits
from fv.vectors.vector import Vector
from fv.vectors.vector_heads import vector_of as made_vector

N = 10
"""Trials: no more than a head output is wide, so that a clean mean tells how often each trial was drawn."""
K = 3
light = settings(max_examples=15, deadline=None)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny("llama")


def measured_of(lm: LanguageModel, q_id: str, seed: int, queries: Sequence[int] | None = None) -> Effects:
    """Random effects of one relation. Trial i's clean output is 1 at place i, of every head."""
    rng, shape = np.random.default_rng([seed, *q_id.encode()]), (lm.n_layers, lm.n_heads)
    clean = torch.eye(N, lm.head_dim)[:, None, None].expand(N, *shape, lm.head_dim).contiguous()
    corrupted = torch.from_numpy(rng.normal(size=(N, *shape, lm.head_dim))).float()
    numbers = None if queries is None else np.array(queries)
    delta_logprob, delta_p = rng.normal(size=(2, N, *shape))
    return effects_of(lm, {q_id: TrialEffects(delta_logprob, delta_p, numbers)}, {q_id: (clean, corrupted)})


def effects_of(
    lm: LanguageModel, effects: dict[str, TrialEffects], outputs: dict[str, tuple[torch.Tensor, torch.Tensor]]
) -> Effects:
    stream = torch.zeros(lm.n_layers, lm.d_model)
    means = {}
    for q_id, (clean, other) in outputs.items():
        one, two = mean_over_prompts(clean), mean_over_prompts(other)
        means[q_id] = RelationMeans(one, two, stream, stream[:, 0], one, stream, PromptOutputs(clean, other))
    return Effects(effects, means, Origin("tiny", {}, TemplateConfig(), False), pd.DataFrame())


def together(*parts: Effects) -> Effects:
    """Effects of several relations."""
    effects = {q_id: own for part in parts for q_id, own in part.effects.items()}
    return replace(parts[0], effects=effects, means={q_id: own for part in parts for q_id, own in part.means.items()})


def vector_of(lm: LanguageModel, q_id: str | None = "a", kind: str = "qid", heads: tuple[Head, ...] = ()) -> Vector:
    return Vector(q_id or "global", kind, q_id, torch.zeros(lm.d_model), len(heads) or K, heads=heads)


def refits_of(
    lm: LanguageModel, effects: Effects, vector: Vector, count: int = 6, seed: int = 0, **ranking: Any
) -> list[Refit]:
    return list(refits(lm, effects, vector, Ranking("mean_delta_logprob", K, **ranking), count, seed))


def projection(lm: LanguageModel, head: Head) -> np.ndarray:
    """A head's part of the output projection, (d_model, head_dim), from the weights."""
    weight = lm.model.state_dict()[f"model.layers.{head.layer}.self_attn.o_proj.weight"].double().numpy()
    return weight[:, lm.head_dim * head.head : lm.head_dim * (head.head + 1)]


def times_of(lm: LanguageModel, refit: Refit) -> np.ndarray:
    """How often each trial was drawn, in shares of all draws, (N,), told by the vector."""
    written = np.sum([projection(lm, head) for head in refit.heads], axis=0)
    return np.linalg.lstsq(written, refit.vector.double().numpy(), rcond=None)[0][:N]


def best(scores: np.ndarray, k: int = K) -> list[tuple[int, int]]:
    places = [(layer, head) for layer in range(scores.shape[0]) for head in range(scores.shape[1])]
    return sorted(places, key=lambda place: -scores[place])[:k]


# What a refit is


@light
@given(seed=st.integers(0, 10**6))
def test_heads_are_the_best_by_the_trials_drawn_and_the_vector_is_of_their_means(lm: LanguageModel, seed: int) -> None:
    effects = measured_of(lm, "a", seed)
    prompts = effects.means["a"].prompts
    assert prompts is not None
    for refit in refits_of(lm, effects, vector_of(lm), seed=seed):
        shares = times_of(lm, refit)
        counts = np.rint(shares * N)
        np.testing.assert_allclose(shares * N, counts, atol=1e-4)
        assert counts.sum() == N and (counts >= 0).all()
        mean = np.average(effects.effects["a"].delta_logprob, axis=0, weights=counts)
        assert [*map(tuple, refit.heads)] == best(mean)
        other = np.average(prompts.corrupted.double().numpy(), axis=0, weights=counts)
        due = np.sum([projection(lm, head) @ other[head] for head in refit.heads], axis=0)
        np.testing.assert_allclose(refit.corrupted.numpy(), due, atol=1e-5)


def test_the_ranking_is_by_the_column_that_the_run_ranks_by(lm: LanguageModel) -> None:
    effects = measured_of(lm, "a", 1)
    for refit in refits(lm, effects, vector_of(lm), Ranking("mean_delta_p", K), 5, 0):
        mean = np.average(effects.effects["a"].delta_p, axis=0, weights=times_of(lm, refit))
        assert [*map(tuple, refit.heads)] == best(mean)


def test_trials_of_a_query_are_drawn_together(lm: LanguageModel) -> None:
    queries = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    for refit in refits_of(lm, measured_of(lm, "a", 2, queries), vector_of(lm), 12):
        counts = times_of(lm, refit).reshape(-1, 2)
        np.testing.assert_allclose(counts[:, 0], counts[:, 1], atol=1e-5)


def test_opposite_effects_of_one_querys_trials_cancel_in_every_draw(lm: LanguageModel) -> None:
    shape = (lm.n_layers, lm.n_heads)
    values = np.full((N, *shape), -1.0)
    values[:, 0, 1], values[:, 2, 3] = 0.01, np.tile([5.0, -5.0], N // 2)
    queries = np.repeat(np.arange(N // 2), 2)
    drawn = {}
    for numbers in (queries, None):
        effects = replace(measured_of(lm, "a", 0), effects={"a": TrialEffects(values, values, numbers)})
        drawn[numbers is None] = {r.heads[0] for r in refits_of(lm, effects, replace(vector_of(lm), k=1), 30)}
    assert drawn == {False: {Head(0, 1)}, True: {Head(0, 1), Head(2, 3)}}


def test_of_equal_trials_every_refit_is_the_vector(lm: LanguageModel) -> None:
    rng, shape = np.random.default_rng(4), (lm.n_layers, lm.n_heads)
    values = np.repeat(rng.normal(size=(1, *shape)), N, axis=0)
    one = [torch.from_numpy(rng.normal(size=(1, *shape, lm.head_dim))).float().expand(N, -1, -1, -1) for _ in "ab"]
    effects = effects_of(lm, {"a": TrialEffects(values, values)}, {"a": (one[0], one[1])})
    vector = made_vector(lm, effects, "a", Ranking("mean_delta_logprob", K), K)
    found = refits_of(lm, effects, vector_of(lm))
    assert len(found) == 6
    for refit in found:
        np.testing.assert_allclose(refit.vector, vector, atol=1e-5)


def test_refits_of_fixed_heads_spread_as_vectors_of_fresh_trials_do(lm: LanguageModel) -> None:
    rng, n, heads = np.random.default_rng(5), 14, (Head(0, 1), Head(2, 2))
    spread = np.exp(rng.normal(size=lm.head_dim))  # places of a head's output vary by different amounts
    corrupted = torch.zeros(n, lm.n_layers, lm.n_heads, lm.head_dim)

    def fresh() -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=(n, lm.n_layers, lm.n_heads, lm.head_dim)) * spread).float()

    def total_sd(vectors: Sequence[np.ndarray]) -> float:
        return float(np.sqrt(np.var(np.stack(vectors), axis=0, ddof=1).sum()))

    values = np.zeros((n, lm.n_layers, lm.n_heads))
    vectors, inside = [], []
    for seed in range(80):
        effects = effects_of(lm, {"a": TrialEffects(values, values)}, {"a": (fresh(), corrupted)})
        mean = effects.means["a"].clean.double().numpy()
        vectors.append(np.sum([projection(lm, head) @ mean[head] for head in heads], axis=0))
        if seed < 8:
            found = refits_of(lm, effects, vector_of(lm, kind="heads", heads=heads), 40, seed)
            assert {refit.heads for refit in found} == {heads}
            inside.append(total_sd([refit.vector.double().numpy() for refit in found]))
    assert np.sqrt(np.mean(np.square(inside))) == pytest.approx(total_sd(vectors), rel=0.25)


# Draws


def test_draws_repeat_by_the_seed_and_differ_from_each_other_and_by_other_seeds(lm: LanguageModel) -> None:
    effects = measured_of(lm, "a", 6)
    one, again, other = (refits_of(lm, effects, vector_of(lm), 4, seed) for seed in (3, 3, 4))
    assert all(torch.equal(x.vector, y.vector) and x.heads == y.heads for x, y in zip(one, again, strict=True))
    shares = {tuple(np.round(times_of(lm, refit), 4)) for refit in (*one, *other)}
    assert len(shares) == 8
    more = refits_of(lm, effects, vector_of(lm), 7, 3)
    assert len(more) == 7 and all(torch.equal(x.vector, y.vector) for x, y in zip(one, more[:4], strict=True))


# Which vectors have some


def test_what_is_not_known_to_be_made_of_fit_trials_has_none(lm: LanguageModel) -> None:
    effects = measured_of(lm, "a", 7)
    without = replace(effects, means={"a": replace(effects.means["a"], prompts=None)})
    assert refits_of(lm, without, vector_of(lm)) == []
    assert refits_of(lm, effects, vector_of(lm, "b")) == []
    assert refits_of(lm, effects, Vector.of(torch.ones(lm.d_model))) == []
    # One relation without outputs takes away the refits of what all relations make.
    some = together(without, measured_of(lm, "b", 7))
    assert (
        refits_of(lm, some, vector_of(lm, "b", "aie_qid")) == refits_of(lm, some, vector_of(lm, None, "global")) == []
    )
    assert len(refits_of(lm, some, vector_of(lm, "b"))) == 6


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_heads_of_the_aie_are_the_best_over_draws_of_every_relation(lm: LanguageModel, leave_one_out: bool) -> None:
    effects = together(*(measured_of(lm, q_id, 8) for q_id in "abc"))
    # A relation's draws are the same, whichever vector they are for.
    drawn = {q_id: [times_of(lm, r) for r in refits_of(lm, effects, vector_of(lm, q_id))] for q_id in "abc"}
    found = refits_of(lm, effects, vector_of(lm, "a", "aie_qid"), leave_one_out=leave_one_out)
    ranked = "bc" if leave_one_out else "abc"
    for i, refit in enumerate(found):
        cie = [np.average(effects.effects[q].delta_logprob, axis=0, weights=drawn[q][i]) for q in ranked]
        assert [*map(tuple, refit.heads)] == best(np.mean(cie, axis=0))
        np.testing.assert_allclose(times_of(lm, refit), drawn["a"][i], atol=1e-5)
    if not leave_one_out:
        for i, refit in enumerate(refits_of(lm, effects, vector_of(lm, None, "global"))):
            assert refit.heads == found[i].heads
            np.testing.assert_allclose(times_of(lm, refit), np.mean([drawn[q][i] for q in "abc"], axis=0), atol=1e-5)


def test_a_head_that_was_not_measured_is_never_chosen(lm: LanguageModel) -> None:
    measured = {Head(0, 2), Head(1, 1), Head(2, 0)}
    values = np.full((N, lm.n_layers, lm.n_heads), np.nan)
    for i, head in enumerate(sorted(measured)):
        values[:, head.layer, head.head] = -1.0 - i
    effects = replace(measured_of(lm, "a", 9), effects={"a": TrialEffects.read(values, values, None)})
    for k in (2, 3, 5):
        for refit in refits_of(lm, effects, replace(vector_of(lm), k=k)):
            assert set(refit.heads) <= measured and len(refit.heads) == min(k, 3)


def test_trials_that_are_averaged_and_not_patched_are_drawn_for_the_means_alone(lm: LanguageModel) -> None:
    whole = measured_of(lm, "a", 10)
    patched = TrialEffects(*(getattr(whole.effects["a"], name)[:6] for name in ("delta_logprob", "delta_p")))
    drawn = []
    for refit in refits_of(lm, replace(whole, effects={"a": patched}), vector_of(lm), 12):
        shares = times_of(lm, refit)
        assert [*map(tuple, refit.heads)] == best(np.average(patched.delta_logprob, axis=0, weights=shares[:6]))
        drawn.append(shares[6:].sum())
    assert max(drawn) > 0.1
