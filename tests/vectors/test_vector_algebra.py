"""Sums, differences and multiples of vectors: of one model only, with names that tell, saved with their cells."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maker_trials import QUIET, RELATIONS
from torch import Tensor

import fv
from fv.config import template_preset
from fv.errors import ConfigError, FvWarning
from fv.models.language_model import LanguageModel

factors = st.floats(-1e3, 1e3)
widths = st.integers(1, 6)


@pytest.fixture(scope="module")
def vectors(tiny_llama: LanguageModel) -> dict[str, fv.Vector]:
    trials = fv.sample_trials(RELATIONS, tiny_llama, demos=2, fit=3, held_out=3, seed=3)
    effects = fv.indirect_effects(tiny_llama, trials, compute=QUIET)
    return {q_id: fv.function_vector(tiny_llama, effects[q_id], k=2) for q_id in effects.qids}


def values(width: int, seed: int, layers: int = 0) -> Tensor:
    shape = (layers, width) if layers else (width,)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(widths, factors, factors)
def test_vectors_form_a_vector_space(width: int, a: float, b: float) -> None:
    one, other = fv.Vector.of(values(width, 1), "x"), fv.Vector.of(values(width, 2), "y")
    assert torch.equal((a * one + b * other).values, a * one.values + b * other.values)
    assert torch.equal((one - other).values, (one + -other).values)
    assert torch.equal((one * a).values, (a * one).values)
    assert not (one - one).values.any()


def test_the_name_of_a_sum_tells_its_parts() -> None:
    one, other = (fv.Vector.of(values(3, seed), name) for seed, name in enumerate(("a", "b")))
    assert (one + other).name == "a + b"
    assert (one - (one + other)).name == "a - (a + b)"
    assert (2 * (one - other)).name == "2 * (a - b)"
    assert (-one).name == "-a"
    assert (np.float64(0.5) * one).name == "0.5 * a"


def test_a_sum_keeps_the_relation_of_its_parts_only_if_they_share_it(vectors: dict[str, fv.Vector]) -> None:
    antonym, plural = vectors["antonym"], vectors["plural"]
    assert (antonym + plural).source_qid is None
    assert (antonym + 2 * antonym).source_qid == "antonym"
    assert (antonym + plural).origin == antonym.origin
    assert (antonym + fv.Vector.of(plural.values)).origin == antonym.origin
    assert (antonym + plural).heads == ()


def test_a_vector_of_all_layers_is_added_to_each_of_a_vector_per_layer() -> None:
    each, one = fv.Vector.of(values(3, 1, layers=4), "each"), fv.Vector.of(values(3, 2), "one")
    assert torch.equal((each + one).values_at(2), each.values[2] + one.values)
    assert torch.equal((one - each).at(layer=3).vector, one.values - each.values[3])


def test_vectors_that_do_not_fit_are_refused(vectors: dict[str, fv.Vector], tiny_gpt2: LanguageModel) -> None:
    antonym = vectors["antonym"]
    with pytest.raises(ConfigError, match=r"antonym \+ file: they are 40 and 3 wide"):
        antonym + fv.Vector.of(values(3, 1))
    with pytest.raises(ConfigError, match="vectors for 2 and 4 layers"):
        fv.Vector.of(values(3, 1, layers=2)) - fv.Vector.of(values(3, 1, layers=4))
    assert antonym.origin is not None
    elsewhere = replace(antonym.origin, model="gpt2", weights=dict(tiny_gpt2.fingerprint))
    with pytest.raises(ConfigError, match="cannot be added: make both with one model"):
        antonym + replace(antonym, origin=elsewhere)
    weights = antonym.origin.weights | {"tokenizer_sha256": "other"}
    with pytest.raises(ConfigError, match="of the tokenizer"):
        antonym + replace(antonym, origin=replace(antonym.origin, weights=weights))
    for factor in (float("nan"), True, "2", antonym):
        with pytest.raises(ConfigError, match="must be a finite number"):
            antonym * factor  # type: ignore[operator]
    with pytest.raises(TypeError):
        antonym + 1  # type: ignore[operator]


def test_prompts_of_another_form_are_told(vectors: dict[str, fv.Vector]) -> None:
    antonym = vectors["antonym"]
    assert antonym.origin is not None
    other = replace(antonym.origin, template=template_preset("arrow"))
    with pytest.warns(FvWarning, match="counts as one of antonym's prompts"):
        antonym + replace(antonym, origin=other)


def test_a_vector_is_saved_with_its_cell_and_in_either_shape(vectors: dict[str, fv.Vector], tmp_path: Path) -> None:
    antonym = vectors["antonym"]
    each = fv.Vector.of(values(3, 1, layers=4), "each")
    for vector in (antonym, antonym.with_cell(fv.Cell(1, 0.5)), 2 * antonym + vectors["plural"], each):
        vector.save(tmp_path / "v.safetensors")
        again = fv.load_vector(tmp_path / "v.safetensors")
        assert torch.equal(again.values, vector.values)
        assert repr(again) == repr(vector)
        assert (again.cell, again.kind, again.name) == (vector.cell, vector.kind, vector.name)
        assert (again.heads, again.origin) == (vector.heads, vector.origin)
    with pytest.raises(ConfigError, match=r"at\(\) takes a cell"):
        antonym.at()
    edit = antonym.with_cell(fv.Cell(1, 0.5)).at()
    assert edit.layer == 1
    assert torch.equal(edit.vector, 0.5 * antonym.values)


def test_a_vector_per_layer_has_a_norm_per_layer() -> None:
    each = fv.Vector.of(values(3, 1, layers=4), "each")
    assert each.norm_at(2) == float(each.values[2].norm())
    with pytest.raises(ConfigError, match="one vector per layer: give the layer"):
        each.norm  # noqa: B018 - it raises
    with pytest.raises(ConfigError, match="has vectors for the layers 0 to 3, not for 4"):
        each.at(layer=4)


def test_a_sum_is_evaluated_like_any_vector(tiny_llama: LanguageModel, vectors: dict[str, fv.Vector]) -> None:
    trials = fv.sample_trials(RELATIONS, tiny_llama, demos=2, fit=3, held_out=3, seed=3)["antonym"]
    found = {
        vector.name: fv.evaluate(
            tiny_llama, vector, trials, layers=1, alphas=alpha, controls=["random_vector"], n_unrelated=0, compute=QUIET
        )
        for vector, alpha in ((vectors["antonym"], 2.0), (2 * vectors["antonym"], 1.0))
    }
    one, twice = (result.rows["injected_logprob"].to_numpy() for result in found.values())
    np.testing.assert_array_equal(one, twice)
