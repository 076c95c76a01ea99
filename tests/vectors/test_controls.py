"""What controls are made of: vectors of one norm and any direction, heads of the same layers, each draw by its seed."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.heads.activations import RelationMeans
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for
from fv.vectors.controls import (
    VectorHeads,
    heads_outside,
    isotropic_vectors,
    layer_matched_heads,
    norm_matched,
    random_head_sets,
    vectors_of_random_outputs,
)
from fv.vectors.vector import Vector

light = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**40)


def random_heads(heads: list[Head], ranking: list[Head], seed: int = 0) -> tuple[Head, ...] | None:
    return layer_matched_heads(heads, heads_outside(heads, ranking), np.random.default_rng(seed))


def layers_of(heads: tuple[Head, ...] | list[Head] | None) -> list[int]:
    return sorted(head.layer for head in heads or ())


def all_heads(n_layers: int, n_heads: int) -> list[Head]:
    return [Head(layer, head) for layer in range(n_layers) for head in range(n_heads)]


# Random vectors


@light
@given(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=40), seeds)
def test_random_vectors_have_the_vectors_norm_and_another_direction_each(values: list[float], seed: int) -> None:
    vector = torch.tensor(values)
    found = norm_matched(vector, 4, np.random.default_rng(seed))
    norm = float(vector.double().norm())
    assert [float(v.double().norm()) for v in found] == pytest.approx([norm] * 4, rel=1e-5, abs=1e-30)
    assert all(v.dtype == vector.dtype and v.shape == vector.shape for v in found)
    if norm > 1e-3:
        directions = torch.stack([*found, vector]).double() / norm
        off_diagonal = (directions @ directions.T)[~torch.eye(5, dtype=torch.bool)]
        assert float(off_diagonal.max()) < 1 - 1e-9


def test_random_directions_are_uniform() -> None:
    # Of a uniform direction in d dimensions, each squared coordinate averages 1 / d and no coordinate leans.
    drawn = torch.stack(norm_matched(torch.tensor([3.0, 0.0, 4.0, 0.0]), 4000, np.random.default_rng(0))) / 5
    np.testing.assert_allclose(drawn.mean(0), 0, atol=4 * 0.5 / np.sqrt(4000))
    np.testing.assert_allclose((drawn**2).mean(0), 0.25, atol=4 * 0.25 / np.sqrt(4000))


def test_more_random_vectors_keep_the_first() -> None:
    vector = torch.arange(12.0)
    few, many = (norm_matched(vector, count, np.random.default_rng(3)) for count in (2, 7))
    assert len(many) == 7
    assert all(torch.equal(a, b) for a, b in zip(few, many[:2], strict=True))


# Random heads


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[Head], list[Head]]:
    """Top heads, and a ranking of all scored heads that starts with them."""
    scored = draw(st.lists(st.sampled_from(all_heads(4, 4)), min_size=1, unique=True))
    return scored[: draw(st.integers(1, len(scored)))], scored


@light
@given(rankings(), seeds)
def test_random_heads_are_as_many_scored_heads_outside_or_none_where_too_few_are(
    drawn: tuple[list[Head], list[Head]], seed: int
) -> None:
    heads, ranking = drawn
    outside = set(ranking) - set(heads)
    found = random_heads(heads, ranking, seed)
    if len(outside) < len(heads):
        assert found is None
        return
    assert found is not None and len(set(found)) == len(found) == len(heads)
    assert set(found) <= outside and list(found) == sorted(found)
    # A layer gives as many as it is asked for, or all it has.
    asked, there, given_ = (Counter(layers_of(list(h))) for h in (heads, outside, found))
    assert all(given_[layer] >= min(asked[layer], there[layer]) for layer in range(4))
    if all(asked[layer] <= there[layer] for layer in asked):
        assert given_ == asked


def test_a_layer_without_others_takes_from_the_nearest_and_of_two_from_the_lower() -> None:
    ranking = all_heads(4, 2)
    # All of layer 1; layers 0 and 2 are equally near.
    assert layers_of(random_heads([Head(1, 0), Head(1, 1)], ranking)) == [0, 0]
    # Of layer 0 one head is left, then one of layer 2 is nearer than one of layer 3.
    without = [head for head in ranking if head != Head(0, 1)]
    assert layers_of(random_heads([Head(1, 0), Head(1, 1)], without)) == [0, 2]
    assert layers_of(random_heads([Head(3, 0), Head(3, 1)], ranking)) == [2, 2]


def test_any_head_of_the_layer_may_be_drawn() -> None:
    ranking = all_heads(2, 5)
    drawn = Counter(random_heads([Head(1, 2)], ranking, seed) for seed in range(400))
    # Four heads, 100 each in expectation; four standard deviations are 35.
    assert set(drawn) == {(Head(1, head),) for head in (0, 1, 3, 4)}
    assert all(65 <= count <= 135 for count in drawn.values())


def test_the_order_of_the_ranking_draws_nothing() -> None:
    ranking = all_heads(3, 4)
    assert random_heads(ranking[:3], ranking) == random_heads(ranking[:3], ranking[::-1])


# Draws for one vector


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny("llama")


@pytest.fixture(scope="module")
def made_of(lm: LanguageModel) -> VectorHeads:
    mean = torch.zeros(lm.n_layers, lm.n_heads, lm.head_dim)
    ranking = np.random.default_rng(2).permutation(all_heads(lm.n_layers, lm.n_heads)).tolist()
    heads = tuple(Head(*head) for head in ranking)
    stream = torch.zeros(lm.n_layers, lm.d_model)
    return VectorHeads(heads[:3], heads, RelationMeans(mean, mean, stream, stream[:, 0], mean, stream))


def vector_of(lm: LanguageModel, name: str = "a") -> Vector:
    return Vector(name, "qid", name, torch.linspace(-1, 2, lm.d_model))


def test_random_heads_are_drawn_once_each_as_many_as_there_are(lm: LanguageModel, made_of: VectorHeads) -> None:
    # One head of each layer is out of four: three others a layer, 27 sets in all.
    one_each = tuple(Head(layer, 0) for layer in range(lm.n_layers))
    of_layers = replace(made_of, heads=one_each, ranking=tuple(sorted(made_of.ranking)))
    sets, all_draws = random_head_sets(vector_of(lm), of_layers, 100, 0)
    assert len(set(sets)) == len(sets) == 27 and all_draws
    # As many as are asked for may be all there are.
    for count, every in ((26, False), (27, True), (28, True)):
        sets, all_draws = random_head_sets(vector_of(lm), of_layers, count, 0)
        assert (len(sets), all_draws) == (min(count, 27), every)
    # One head beside the one that is out: a single set, and there is no other.
    alone = replace(made_of, heads=(Head(1, 0),), ranking=(Head(1, 0), Head(1, 1)))
    for count in (1, 3):
        assert random_head_sets(vector_of(lm), alone, count, 0) == ([(Head(1, 1),)], True)


def test_random_heads_may_be_ones_that_were_not_verified(lm: LanguageModel, made_of: VectorHeads) -> None:
    verified = replace(made_of, ranking=made_of.heads, unverified=made_of.ranking[3:])
    drawn, of_all = (random_head_sets(vector_of(lm), each, 2, 0).sets for each in (verified, made_of))
    assert drawn == of_all != []


def test_more_draws_keep_the_first(lm: LanguageModel, made_of: VectorHeads) -> None:
    few, many = (isotropic_vectors(vector_of(lm), count, 0) for count in (2, 6))
    assert len(many) == 6 and all(torch.equal(a, b) for a, b in zip(few, many[:2], strict=True))
    few_sets, many_sets = (random_head_sets(vector_of(lm), made_of, count, 0).sets for count in (2, 6))
    assert len(many_sets) == 3 and few_sets == many_sets[:2]  # there are no more sets than three


def test_draws_depend_on_the_seed_and_the_vectors_name(lm: LanguageModel, made_of: VectorHeads) -> None:
    drawn = [
        isotropic_vectors(vector_of(lm, name), 1, seed)[0] for name, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not any(torch.equal(drawn[0], other) for other in drawn[2:])
    expected = norm_matched(vector_of(lm).values, 1, generator_for(0, "random_vector", "a"))[0]
    assert torch.equal(drawn[0], expected)
    one, again, *others = (
        random_head_sets(vector_of(lm, name), made_of, 4, seed).sets
        for name, seed in (("a", 0), ("a", 0), *((name, 0) for name in "bcdef"), *(("a", seed) for seed in range(1, 6)))
    )
    assert one == again and any(found != one for found in others[:5]) and any(found != one for found in others[5:])


# Vectors of random outputs


def means_of(lm: LanguageModel, heads: tuple[Head, ...], seed: int = 0) -> VectorHeads:
    """What a vector of these heads is made of: random means, each of another norm."""
    generator = torch.Generator().manual_seed(seed)
    clean, corrupted = torch.randn(2, lm.n_layers, lm.n_heads, lm.head_dim, generator=generator)
    clean *= torch.rand(lm.n_layers, lm.n_heads, 1, generator=generator) + 0.2
    stream = torch.zeros(lm.n_layers, lm.d_model)
    return VectorHeads(heads, heads, RelationMeans(clean, corrupted, stream, stream[:, 0], clean, stream))


def projections(lm: LanguageModel, head: Head, clean: torch.Tensor) -> np.ndarray:
    """What a head's output is multiplied by on its way to the stream, (d_model, head_dim), from the weights.

    In Gemma 2 a norm follows the projection: its scale is that of the layer's clean means.
    """
    state, block = lm.model.state_dict(), f"model.layers.{head.layer}."
    whole = state[f"{block}self_attn.o_proj.weight"].double().numpy()
    own = whole[:, lm.head_dim * head.head : lm.head_dim * (head.head + 1)]
    if lm.spec.name != "gemma2":
        return own
    projected = whole @ clean[head.layer].double().numpy().ravel()
    scale = 1 / np.sqrt(np.mean(projected**2) + lm.model.config.rms_norm_eps)
    gain = scale * (1 + state[f"{block}post_attention_layernorm.weight"].double().numpy())
    return gain[:, None] * own


@pytest.mark.parametrize("family", ["llama", "gemma2"])
@pytest.mark.parametrize("heads", [(Head(1, 2),), (Head(0, 1), Head(2, 3)), (Head(1, 0), Head(1, 3))])
def test_random_outputs_are_written_by_the_vectors_heads_each_of_its_mean_outputs_norm(
    family: str, heads: tuple[Head, ...]
) -> None:
    lm = tiny(family)
    made_of = means_of(lm, heads)
    clean = made_of.means.clean
    found = vectors_of_random_outputs(lm, vector_of(lm), made_of, 5, 0)
    # Two heads are 24 of the stream's 40 dimensions: most vectors are not in their span.
    written = np.concatenate([projections(lm, head, clean) for head in heads], axis=1)
    assert written.shape[1] < lm.d_model
    outputs = []
    for values in found:
        drawn = np.linalg.lstsq(written, values.double().numpy(), rcond=None)[0]
        np.testing.assert_allclose(written @ drawn, values, atol=1e-5)
        outputs.append(drawn.reshape(len(heads), lm.head_dim))
        norms = [float(clean[head].double().norm()) for head in heads]
        np.testing.assert_allclose(np.linalg.norm(outputs[-1], axis=1), norms, rtol=1e-4)
    directions = np.stack(outputs).reshape(5, -1) / np.linalg.norm(outputs[0])
    assert np.max(directions @ directions.T - np.eye(5)) < 0.95


def test_more_draws_of_random_outputs_keep_the_first_and_others_depend_on_seed_and_name(lm: LanguageModel) -> None:
    made_of = means_of(lm, (Head(0, 1), Head(2, 3)))

    def drawn(count: int, name: str = "a", seed: int = 0) -> list[torch.Tensor]:
        return vectors_of_random_outputs(lm, vector_of(lm, name), made_of, count, seed)

    few, many = drawn(2), drawn(6)
    assert len(many) == 6 and all(torch.equal(a, b) for a, b in zip(few, many[:2], strict=True))
    first = [drawn(1, name, seed)[0] for name, seed in (("a", 0), ("b", 0), ("a", 1))]
    assert torch.equal(first[0], many[0]) and not any(torch.equal(first[0], other) for other in first[1:])
    swapped = replace(made_of, heads=made_of.heads[::-1])
    assert torch.equal(vectors_of_random_outputs(lm, vector_of(lm), swapped, 1, 0)[0], first[0])


def test_a_heads_random_outputs_point_anywhere(lm: LanguageModel) -> None:
    made_of = means_of(lm, (Head(1, 1),))
    clean = made_of.means.clean[1, 1].double().numpy()
    written = projections(lm, Head(1, 1), made_of.means.clean)
    found = torch.stack(vectors_of_random_outputs(lm, vector_of(lm), made_of, 2000, 0)).double().numpy()
    outputs = np.linalg.lstsq(written, found.T, rcond=None)[0].T / np.linalg.norm(clean)
    d = lm.head_dim
    np.testing.assert_allclose(outputs.mean(0), 0, atol=4 / np.sqrt(2000 * d))
    np.testing.assert_allclose(outputs.T @ outputs / 2000, np.eye(d) / d, atol=5 * 1.5 / d / np.sqrt(2000))
