"""Conditions: each is exactly what its definition says, can be switched off, and says what it is compared with."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from commands import ROOT
from families import tiny
from torch import Tensor

from fv.config import AlphaUnit, EvaluationConfig, TemplateConfig
from fv.data.origin import Origin
from fv.errors import ConfigError
from fv.evaluation import Candidate, condition_providers, only
from fv.evaluation.candidates import Candidates, CandidatesOfRelations
from fv.evaluation.condition import settled
from fv.heads.activations import PromptOutputs, RelationMeans
from fv.heads.effects import Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.ranking import Ranking
from fv.interventions.edits import LastTokenEdit, SetHeads
from fv.interventions.engine import Cell, Head
from fv.models.language_model import LanguageModel
from fv.vectors.controls import isotropic_vectors, random_head_sets, vectors_of_random_outputs
from fv.vectors.options import Injected, LayerVectors, Option
from fv.vectors.refits import refits
from fv.vectors.stream import Stream
from fv.vectors.vector import Vector
from fv.vectors.vector_heads import vector_of as made_vector

NAMES = list(condition_providers())
ALWAYS = {"zero_shot", "few_shot", "fv"}
RANKING = Ranking("mean_delta_logprob", 3)
CELLS = [Cell(layer, alpha) for layer in (0, 1) for alpha in (1.0, 2.0)]
HERE = Cell(1, 2.0)


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return tiny("llama")


@pytest.fixture(scope="module")
def measured(lm: LanguageModel) -> Effects:
    """Random effects and means of four relations."""
    generator, rng, shape = torch.Generator().manual_seed(5), np.random.default_rng(5), (lm.n_layers, lm.n_heads)
    effects = {q: TrialEffects(*rng.normal(size=(2, 4, *shape))) for q in "abcd"}
    means = {}
    for q in "abcd":
        clean, corrupted = torch.randn(2, 4, *shape, lm.head_dim, generator=generator)
        residual, zero_shot = torch.randn(2, lm.n_layers, lm.d_model, generator=generator)
        norm, outputs = torch.ones(lm.n_layers), PromptOutputs(clean, corrupted)
        means[q] = RelationMeans(
            clean.mean(0), corrupted.mean(0), residual, norm, torch.zeros_like(clean[0]), zero_shot, outputs
        )
    return Effects(effects, means, Origin("tiny", {}, TemplateConfig(), False), pd.DataFrame())


def vector_of(lm: LanguageModel, measured: Effects, q_id: str = "a", **changes: Any) -> Vector:
    """A relation's own vector."""
    values = made_vector(lm, measured, q_id, RANKING, RANKING.k)
    return replace(Vector(q_id, "qid", q_id, values, RANKING.k), **changes)


def candidates_of(
    lm: LanguageModel,
    measured: Effects | None,
    vectors: Sequence[Vector],
    conditions: dict[str, Any] | None = None,
    q_id: str = "a",
) -> Candidates:
    evaluation = EvaluationConfig(conditions=conditions or {})
    ranking = None if measured is None else RANKING
    of_relations = CandidatesOfRelations(evaluation, AlphaUnit.vector, 0, lm, measured, ranking, CELLS)
    return of_relations.of(q_id, [(vector, HERE) for vector in vectors])


def by_name(found: Iterable[Candidate]) -> dict[str, list[Candidate]]:
    kinds: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in found:
        kinds[candidate.name].append(candidate)
        assert candidate.draw == len(kinds[candidate.name]) - 1
    return dict(kinds)


@pytest.fixture(scope="module")
def whole(lm: LanguageModel, measured: Effects) -> dict[str, list[Candidate]]:
    """All conditions of one relation's vector on it, by name."""
    found = candidates_of(lm, measured, [vector_of(lm, measured)])
    return by_name([*found.own, *found.of_others])


# Every provider


@pytest.mark.parametrize("name", NAMES)
def test_a_switch_removes_every_condition_of_a_provider_and_no_other(
    lm: LanguageModel, measured: Effects, whole: dict[str, list[Candidate]], name: str
) -> None:
    vector = vector_of(lm, measured)
    alone, without = (
        by_name(own + others)
        for own, others in (
            candidates_of(lm, measured, [vector], dict(settings))
            for settings in (only([name]), {name: {"enabled": False}})
        )
    )
    assert alone.keys() - ALWAYS and alone.keys() | without.keys() == whole.keys()
    assert alone.keys() & without.keys() == ALWAYS
    for found in (alone, without):
        assert {kind: [c.content for c in found[kind]] for kind in found} == {
            kind: [c.content for c in whole[kind]] for kind in found
        }


def test_every_condition_is_defined_in_the_methods(whole: dict[str, list[Candidate]]) -> None:
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    defined = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert len(whole) > 10 and not [name for name in whole if not any(f"`{name}`" in cell for cell in defined)]


@pytest.mark.parametrize("name", NAMES)
def test_every_condition_has_a_part_in_a_comparison(lm: LanguageModel, measured: Effects, name: str) -> None:
    found = candidates_of(lm, measured, [vector_of(lm, measured)], dict(only([name])))
    every = [*found.own, *found.of_others]
    compared = {part for c in every for pair in c.contrasts for part in pair}
    # A refit widens the intervals of what it is a refit of, where that is run.
    assert {c.refit_of for c in every} - {""} <= {"fv", "corrupted_prompts"}
    assert {c.name for c in every if not c.refit_of} - {"zero_shot"} == compared


@pytest.mark.parametrize("name", NAMES)
def test_a_provider_that_needs_effects_is_refused_by_name_without_them_and_another_is_run(
    lm: LanguageModel, measured: Effects, name: str
) -> None:
    vector = vector_of(lm, measured)
    if condition_providers()[name].needs_effects:
        with pytest.raises(ConfigError, match=rf"^The conditions {name} need effects and means"):
            candidates_of(lm, None, [vector], dict(only([name])))
    else:
        found, whole = (candidates_of(lm, what, [vector], dict(only([name]))) for what in (None, measured))
        assert len(found.own) > len(ALWAYS)
        assert [(c.name, c.draw) for c in found.own] == [(c.name, c.draw) for c in whole.own]
        # Random vectors are of the vector's heads where these are known.
        assert ([c.content for c in found.own] == [c.content for c in whole.own]) == (name != "random_vector")


@pytest.mark.parametrize("name", NAMES)
def test_only_what_other_relations_have_a_part_in_changes_with_them(
    lm: LanguageModel, measured: Effects, name: str
) -> None:
    vector, fewer = vector_of(lm, measured), replace(measured, means={q: measured.means[q] for q in "ab"})
    own, others = candidates_of(lm, measured, [vector], dict(only([name])))
    with_fewer = candidates_of(lm, fewer, [vector], dict(only([name])))
    assert [c.content for c in own] == [c.content for c in with_fewer.own]
    assert bool(others) == condition_providers()[name].made_of_others
    assert not others or [c.content for c in others] != [c.content for c in with_fewer.of_others]


# What each condition is


def written_by(lm: LanguageModel, mean: torch.Tensor, heads: Iterable[Head]) -> np.ndarray:
    """What heads add to the residual stream, from the weights."""
    state, width = lm.model.state_dict(), lm.head_dim
    parts = [
        state[f"model.layers.{at}.self_attn.o_proj.weight"][:, width * head : width * (head + 1)].double().numpy()
        @ mean[at, head].double().numpy()
        for at, head in heads
    ]
    return np.sum(parts, axis=0)


def edit_of(candidate: Candidate) -> LastTokenEdit:
    return candidate.options.edit(candidate.options.default, Stream())


def values_of(candidate: Candidate) -> np.ndarray:
    options = candidate.options
    assert isinstance(options, Injected) and options.cell == HERE
    return options.values.numpy()


def test_each_control_is_what_its_definition_says(
    lm: LanguageModel, measured: Effects, whole: dict[str, list[Candidate]]
) -> None:
    vector, made_of = vector_of(lm, measured), measured.heads_of("a", RANKING, RANKING.k)
    sets, _ = random_head_sets(vector, made_of, 10, 0)
    assert len(sets) == 10
    due = {
        "random_vector": [v.numpy() for v in vectors_of_random_outputs(lm, vector, made_of, 20, 0)],
        "random_heads": [written_by(lm, made_of.means.clean, heads) for heads in sets],
        "bottom_heads": [written_by(lm, made_of.means.clean, made_of.ranking[-3:])],
        "corrupted_prompts": [written_by(lm, made_of.means.corrupted, made_of.heads)],
        "other_relation": [vector_of(lm, measured, q).values.numpy() for q in "bcd"],
    }
    due["mean_of_others"] = [np.mean(due["other_relation"], axis=0)]
    for name, expected in due.items():
        np.testing.assert_allclose([values_of(c) for c in whole[name]], expected, atol=1e-5, err_msg=name)
    assert [c.of for c in whole["other_relation"]] == ["b", "c", "d"]
    assert {c.name for own in whole.values() for c in own if c.of} == {"other_relation"}
    assert {c.name for own in whole.values() for c in own if not c.all_draws} == {
        "random_vector",
        "random_heads",
        "ablated_random_heads",
        "fv_refit",
        "corrupted_prompts_refit",
    }


def test_random_vectors_are_isotropic_where_that_is_asked_for_and_where_no_heads_are_known(
    lm: LanguageModel, measured: Effects
) -> None:
    vector, file = vector_of(lm, measured), Vector.of(torch.ones(lm.d_model))
    for one, form in ((vector, "isotropic"), (file, "head_outputs")):
        own = candidates_of(lm, measured, [one], dict(only(["random_vector"])) | {"random_vector": {"form": form}}).own
        found = [values_of(c) for c in own if c.name == "random_vector"]
        np.testing.assert_array_equal(found, torch.stack(isotropic_vectors(one, 20, 0)))
        norms = np.linalg.norm(found, axis=1)
        assert norms == pytest.approx([float(one.values.norm())] * 20, rel=1e-5)


def test_layer_means_are_a_difference_to_add_and_a_mean_to_put_in_the_streams_place(
    lm: LanguageModel, measured: Effects, whole: dict[str, list[Candidate]]
) -> None:
    means = measured.means["a"]
    due = {"layer_mean_added": means.residual - means.zero_shot_residual, "layer_mean_replaced": means.residual}
    for name, values in due.items():
        (found,) = whole[name]
        assert isinstance(found.options, LayerVectors) and torch.equal(found.options.values, values)
        assert found.options.replaces == (name == "layer_mean_replaced")


def test_refits_are_the_vector_and_its_corrupted_one_made_again_at_their_cells(
    lm: LanguageModel, measured: Effects, whole: dict[str, list[Candidate]]
) -> None:
    found = list(refits(lm, measured, vector_of(lm, measured), RANKING, 20, 0))
    due = {"fv": [r.vector for r in found], "corrupted_prompts": [r.corrupted for r in found]}
    for refit_of, vectors in due.items():
        own = whole[f"{refit_of}_refit"]
        np.testing.assert_array_equal([values_of(c) for c in own], torch.stack(vectors))
        assert {(c.refit_of, c.prompt, c.contrasts == []) for c in own} == {(refit_of, "zero_shot", True)}
    candidates = [whole["fv"][0], whole["corrupted_prompts"][0], *whole["fv_refit"], *whole["corrupted_prompts_refit"]]
    conditions = settled(candidates, {1: Option(0, 0.25)}, Stream())
    options = {name: {c.option for c in conditions if c.name == name} for name in {c.name for c in conditions}}
    there = {"fv": {Option(*HERE)}, "corrupted_prompts": {Option(0, 0.25)}}
    assert options == there | {f"{name}_refit": cell for name, cell in there.items()}


def test_a_vector_that_names_its_heads_is_compared_with_what_those_make(lm: LanguageModel, measured: Effects) -> None:
    # Ranked by probability, as the paper has it: other heads than those at the top by log probability.
    by_p = tuple(measured["a"].top(3, "mean_delta_p"))
    ranking = measured.heads_of("a", RANKING, RANKING.k).ranking
    assert set(by_p) & set(ranking[-3:]) and set(by_p) != set(ranking[:3])
    found = by_name(candidates_of(lm, measured, [vector_of(lm, measured, heads=by_p)]).own)
    means = measured.means["a"]
    bottom = [head for head in ranking if head not in by_p][-3:]
    due = {"corrupted_prompts": (means.corrupted, by_p), "bottom_heads": (means.clean, bottom)}
    for name, (mean, heads) in due.items():
        np.testing.assert_allclose(values_of(found[name][0]), written_by(lm, mean, heads), atol=1e-5, err_msg=name)
    for ablated in found["ablated_top_heads"]:
        edit = edit_of(ablated)
        assert isinstance(edit, SetHeads) and edit.heads == by_p


def test_ablations_set_the_vectors_heads_and_random_ones_to_their_corrupted_mean(
    lm: LanguageModel, measured: Effects, whole: dict[str, list[Candidate]]
) -> None:
    made_of = measured.heads_of("a", RANKING, RANKING.k)
    sets, _ = random_head_sets(vector_of(lm, measured), made_of, 10, 0)
    edits = [edit_of(c) for c in (*whole["ablated_top_heads"], *whole["ablated_random_heads"])]
    for edit, heads in zip(edits, [made_of.heads, *sets], strict=True):
        assert isinstance(edit, SetHeads) and edit.heads == heads
        assert isinstance(edit.values, Tensor) and torch.equal(edit.values, measured.means["a"].corrupted)


def test_more_draws_keep_the_first(lm: LanguageModel, measured: Effects) -> None:
    for name in ("random_vector", "random_heads", "ablated_heads"):
        few, many = (
            candidates_of(lm, measured, [vector_of(lm, measured)], dict(only([name])) | {name: {"draws": draws}}).own
            for draws in (2, 5)
        )
        assert len(many) == len(few) + 3
        assert [c.content for c in few] == [c.content for c in many[: len(few)]]


@pytest.mark.parametrize(("k", "there"), [(6, True), (7, False)])
def test_heads_that_are_most_of_the_ranking_have_no_others_to_compare(
    lm: LanguageModel, measured: Effects, k: int, there: bool
) -> None:
    # Twelve heads in all: from the seventh on, bottom heads would be top heads.
    found = by_name(candidates_of(lm, measured, [vector_of(lm, measured, k=k)]).own)
    assert ("bottom_heads" in found, "random_heads" in found) == (there, there)
    assert "corrupted_prompts" in found


def test_a_vector_from_a_file_has_the_conditions_that_need_no_heads(lm: LanguageModel, measured: Effects) -> None:
    file = Vector("file", "file", None, torch.ones(lm.d_model))
    found = candidates_of(lm, measured, [file])
    assert {c.name for c in found.own if c.fv == "file"} == {"fv", "random_vector", "few_shot_corrupted_fv"}
    assert not found.of_others


def test_a_vector_away_from_its_relation_is_compared_with_the_controls_of_the_relations_own(
    lm: LanguageModel, measured: Effects
) -> None:
    own, other = vector_of(lm, measured), vector_of(lm, measured, "b")
    here = [c for c in candidates_of(lm, measured, [own, other]).of_others if c.fv == "b"]
    assert [(c.name, c.compared_with) for c in here] == [("fv", "a")]
    # Where the relation has none, only what says something of any vector is run.
    found = candidates_of(lm, measured, [other])
    assert {c.name for c in found.of_others} == {"fv", "random_vector"}
    assert {c.name for c in found.own} == {"zero_shot", "few_shot", "few_shot_corrupted"} | {
        "layer_mean_added",
        "layer_mean_replaced",
    }
