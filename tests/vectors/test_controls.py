"""Controls: each is exactly what its definition says, and none is made of what is missing."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from families import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fv.config.evaluation import ControlsConfig
from fv.heads.activations import RelationMeans
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for
from fv.vectors.controls import Control, VectorHeads, layer_matched_heads, make_controls, norm_matched, random_head_sets
from fv.vectors.vector import Vector

light = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**40)


def random_heads(heads: list[Head], ranking: list[Head], seed: int = 0) -> tuple[Head, ...] | None:
    return layer_matched_heads(heads, ranking, np.random.default_rng(seed))


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


# All controls of a vector

QUICK = ControlsConfig(random_vectors=3, random_heads=2)
OTHERS = {q: torch.randn(40, generator=torch.Generator().manual_seed(i)) for i, q in enumerate(["b", "c", "d"])}


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny("llama")


@pytest.fixture(scope="module")
def made_of(lm: LanguageModel) -> VectorHeads:
    generator = torch.Generator().manual_seed(5)
    clean, corrupted = torch.randn(2, lm.n_layers, lm.n_heads, lm.head_dim, generator=generator)
    ranking = tuple(np.random.default_rng(2).permutation(all_heads(lm.n_layers, lm.n_heads)).tolist())
    ranking = tuple(Head(*head) for head in ranking)
    return VectorHeads(ranking[:3], ranking, RelationMeans(clean, corrupted, torch.zeros(lm.n_layers, lm.d_model)))


def vector_of(lm: LanguageModel, name: str = "a") -> Vector:
    return Vector(name, "qid", name, torch.linspace(-1, 2, lm.d_model))


def controls(lm: LanguageModel, made_of: VectorHeads | None, seed: int = 0, **changes: Any) -> list[Control]:
    others = changes.pop("others", OTHERS)
    return make_controls(lm, vector_of(lm), made_of, others, replace(QUICK, **changes), seed)


def by_kind(found: list[Control]) -> dict[str, list[Tensor]]:
    kinds: dict[str, list[Tensor]] = {}
    for control in found:
        kinds.setdefault(control.name, []).append(control.values)
        assert control.draw == len(kinds[control.name]) - 1
    return kinds


def written_by(lm: LanguageModel, mean: Tensor, heads: tuple[Head, ...]) -> np.ndarray:
    """What heads add to the residual stream, from the weights."""
    state, width = lm.model.state_dict(), lm.head_dim
    parts = [
        state[f"model.layers.{at}.self_attn.o_proj.weight"][:, width * head : width * (head + 1)].double().numpy()
        @ mean[at, head].double().numpy()
        for at, head in heads
    ]
    return np.sum(parts, axis=0)


def test_each_control_is_what_its_definition_says(lm: LanguageModel, made_of: VectorHeads) -> None:
    kinds = by_kind(controls(lm, made_of))
    expected = [
        "random_vector",
        "random_heads",
        "bottom_heads",
        "corrupted_prompts",
        "other_relation",
        "mean_of_others",
    ]
    assert list(kinds) == expected
    norm = float(vector_of(lm).values.norm())
    assert [float(v.norm()) for v in kinds["random_vector"]] == pytest.approx([norm] * 3, rel=1e-5)
    clean, corrupted = made_of.means.clean, made_of.means.corrupted
    bottom = written_by(lm, clean, made_of.ranking[-3:])
    np.testing.assert_allclose(kinds["bottom_heads"][0].numpy(), bottom, atol=1e-5)
    same_heads = written_by(lm, corrupted, made_of.heads)
    np.testing.assert_allclose(kinds["corrupted_prompts"][0].numpy(), same_heads, atol=1e-5)
    mean = np.mean([values.double().numpy() for values in OTHERS.values()], axis=0)
    np.testing.assert_allclose(kinds["mean_of_others"][0].numpy(), mean, atol=1e-6)


def test_random_heads_vectors_are_of_layer_matched_heads_on_clean_prompts(
    lm: LanguageModel, made_of: VectorHeads
) -> None:
    sets, all_draws = random_head_sets(vector_of(lm), made_of, 2, 0)
    assert not all_draws
    assert len(set(sets)) == 2 and not any(set(heads) & set(made_of.heads) for heads in sets)
    for values, heads in zip(by_kind(controls(lm, made_of))["random_heads"], sets, strict=True):
        np.testing.assert_allclose(values.numpy(), written_by(lm, made_of.means.clean, heads), atol=1e-5)


def test_every_other_relation_is_a_control_and_named(lm: LanguageModel, made_of: VectorHeads) -> None:
    found = [c for c in controls(lm, made_of) if c.name == "other_relation"]
    assert [c.of for c in found] == sorted(OTHERS)
    assert all(torch.equal(c.values, OTHERS[str(c.of)]) and c.all_draws for c in found)
    assert all(c.of is None for c in controls(lm, made_of) if c.name != "other_relation")


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"random_vectors": 0}, {"random_vector"}),
        ({"random_heads": 0}, {"random_heads"}),
        ({"bottom_heads": False}, {"bottom_heads"}),
        ({"corrupted": False}, {"corrupted_prompts"}),
        ({"other_relation": False}, {"other_relation"}),
        ({"mean_of_others": False}, {"mean_of_others"}),
        ({"others": {}}, {"other_relation", "mean_of_others"}),
    ],
)
def test_what_is_not_asked_for_or_missing_is_not_made_and_changes_no_other(
    lm: LanguageModel, made_of: VectorHeads, changes: dict[str, Any], gone: set[str]
) -> None:
    whole, found = by_kind(controls(lm, made_of)), by_kind(controls(lm, made_of, **changes))
    assert set(whole) - set(found) == gone
    assert all(torch.equal(torch.stack(found[kind]), torch.stack(whole[kind])) for kind in found)


def test_a_vector_from_a_file_has_no_controls_made_of_heads(lm: LanguageModel) -> None:
    assert set(by_kind(controls(lm, None))) == {"random_vector", "other_relation", "mean_of_others"}


@pytest.mark.parametrize(("k", "there"), [(6, True), (7, False)])
def test_heads_that_are_most_of_the_ranking_have_no_others_to_compare(
    lm: LanguageModel, made_of: VectorHeads, k: int, there: bool
) -> None:
    # Twelve heads in all: from the seventh on, bottom heads would be top heads.
    kinds = by_kind(controls(lm, replace(made_of, heads=made_of.ranking[:k])))
    assert ("bottom_heads" in kinds, "random_heads" in kinds) == (there, there)
    assert "corrupted_prompts" in kinds


def test_random_heads_are_drawn_once_each_as_many_as_there_are(lm: LanguageModel, made_of: VectorHeads) -> None:
    # One head of each layer is out of four: three others a layer, 27 sets in all.
    one_each = tuple(Head(layer, 0) for layer in range(lm.n_layers))
    of_layers = replace(made_of, heads=one_each, ranking=tuple(sorted(made_of.ranking)))
    sets, all_draws = random_head_sets(vector_of(lm), of_layers, 100, 0)
    assert len(set(sets)) == len(sets) == 27 and all_draws
    # One head beside the one that is out: a single set, and there is no other.
    alone = replace(made_of, heads=(Head(1, 0),), ranking=(Head(1, 0), Head(1, 1)))
    assert random_head_sets(vector_of(lm), alone, 3, 0) == ([(Head(1, 1),)], True)
    drawn = [c for c in make_controls(lm, vector_of(lm), alone, {}, QUICK, 0) if c.name == "random_heads"]
    assert [(c.draw, c.all_draws) for c in drawn] == [(0, True)]


def test_more_draws_keep_the_first(lm: LanguageModel, made_of: VectorHeads) -> None:
    few, many = (by_kind(controls(lm, made_of, random_vectors=n, random_heads=n)) for n in (2, 6))
    for kind, count in (("random_vector", 6), ("random_heads", 3)):
        assert len(many[kind]) == count
        assert all(torch.equal(a, b) for a, b in zip(few[kind], many[kind][:2], strict=True))


def test_draws_depend_on_the_seed_and_the_vectors_name(lm: LanguageModel, made_of: VectorHeads) -> None:
    drawn = [
        make_controls(lm, vector_of(lm, name), made_of, OTHERS, QUICK, seed)[0].values
        for name, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
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
