"""`fv.make_vector`: any maker by name gives a vector, or other edits, that are used at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maker_trials import OUTSIDE, QUIET, RELATIONS
from plug_ins import install

import fv
from fv.data.prompts import prompt_of
from fv.errors import ConfigError
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.vectors import makers
from fv.vectors.makers import maker_classes


@pytest.fixture(scope="module")
def trials(tiny_llama: LanguageModel) -> fv.Trials:
    return fv.sample_trials(RELATIONS, tiny_llama, demos=2, fit=3, held_out=3, seed=3)


@pytest.fixture(scope="module")
def effects(tiny_llama: LanguageModel, trials: fv.Trials) -> fv.Effects:
    return fv.indirect_effects(tiny_llama, trials, compute=QUIET)


def make(lm: LanguageModel, trials: fv.Trials, name: str, **more: object) -> fv.Vector | fv.MadeEdit:
    return fv.make_vector(lm, trials["antonym"], name, compute=QUIET, **more)  # type: ignore[arg-type]


def test_a_made_vector_is_evaluated_edited_with_and_saved(
    tiny_llama: fv.EditableModel, trials: fv.Trials, effects: fv.Effects, tmp_path: Path
) -> None:
    vector = make(tiny_llama, trials, "mean_difference", effects=effects["antonym"])
    assert isinstance(vector, fv.Vector)
    assert (vector.name, vector.kind, vector.source_qid) == ("antonym@mean_difference", "mean_difference", "antonym")
    assert torch.equal(vector.values, effects.means_of("antonym").difference)
    assert vector.origin == effects.origin
    result = fv.evaluate(
        tiny_llama,
        vector,
        trials["antonym"],
        alphas=[1, 2],
        controls="all",
        effects=effects,
        n_unrelated=2,
        compute=QUIET,
    )
    assert {*result.rows["layer"]} == {0, 1, 2}
    norms = {*zip(result.rows["layer"], result.rows["norm"], strict=True)}
    assert norms == {(layer, vector.norm_at(layer)) for layer in range(tiny_llama.n_layers)}
    conditions = {*result.table["condition"]}
    assert {"fv", "random_vector", "layer_mean_added", "few_shot_corrupted_fv"} <= conditions
    assert not conditions & {"random_heads", "fv_refit", "bottom_heads", "corrupted_prompts", "ablated_top_heads"}
    chosen = vector.with_cell(result.cell)
    chosen.save(tmp_path / "v.safetensors")
    again = fv.load_vector(tmp_path / "v.safetensors")
    assert again.cell == result.cell
    with tiny_llama.edited(again.at()):
        assert isinstance(tiny_llama.generate("Q: hot\nA:", max_new_tokens=1), str)


@pytest.mark.parametrize("unit", ["vector", "residual"])
def test_a_vector_per_layer_is_injected_as_each_layers_vector_is(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects, unit: str
) -> None:
    vector = make(tiny_llama, trials, "mean_difference", effects=effects)
    other = fv.function_vector(tiny_llama, effects["antonym"], k=2)
    assert isinstance(vector, fv.Vector)
    more: Any = {"alpha_unit": unit, "effects": effects, "controls": [], "n_unrelated": 0, "compute": QUIET}
    both = fv.evaluate(tiny_llama, [vector, other], trials["antonym"], alphas=[0.5, 1], **more)
    for layer in range(tiny_llama.n_layers):
        one = fv.Vector.of(vector.values_at(layer), "one")
        alone = fv.evaluate(tiny_llama, one, trials["antonym"], layers=layer, alphas=[0.5, 1], **more).rows
        here = both.rows[(both.rows["fv"] == vector.name) & (both.rows["layer"] == layer)]
        np.testing.assert_array_equal(here["injected_logprob"], alone["injected_logprob"])
        np.testing.assert_array_equal(here["norm"], alone["norm"])
    alone = fv.evaluate(tiny_llama, other, trials["antonym"], alphas=[0.5, 1], **more).rows
    here = both.rows[both.rows["fv"] == other.name]
    np.testing.assert_array_equal(here["injected_logprob"], alone["injected_logprob"])


@pytest.mark.parametrize("name", [name for name, kind in maker_classes().items() if not kind.required])
def test_every_maker_gives_edits_that_change_the_model(
    tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects, name: str
) -> None:
    found = make(tiny_llama, trials, name, effects=effects, cells=[fv.Cell(1, 1.0)])
    at_layer = isinstance(found, fv.Vector) or found.options.default.layer is not None
    edit = found.at(layer=1) if at_layer else found.at()
    engine, own = make_engine(tiny_llama, "auto", 64), trials["antonym"]
    asked = [prompt_of(tiny_llama, own.snapshot, own.held_out[0], "zero_shot")]
    before, after = engine.target_logprobs(asked, [None, edit])[0]
    # A training that finds nothing that helps the queries held aside keeps its start, such as zeros.
    assert before != after or maker_classes()[name].trains


def test_other_edits_are_made_at_a_strength(tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects) -> None:
    made = make(tiny_llama, trials, "set_heads", effects=effects, k=2)
    assert isinstance(made, fv.MadeEdit)
    edit = made.at(alpha=0.25)
    assert isinstance(edit, fv.SetHeads)
    assert edit.share == 0.25
    with pytest.raises(ConfigError, match="has its own layers"):
        made.at(layer=1)
    with pytest.raises(ConfigError, match="is no edit"):
        made.at(alpha=0)
    linear = make(tiny_llama, trials, "linear_vector", effects=effects)
    assert isinstance(linear, fv.MadeEdit)
    with pytest.raises(ConfigError, match="acts at one layer"):
        linear.at(alpha=0.5)
    with pytest.raises(ConfigError, match="layer=3 must be from 0 to 2"):
        linear.at(layer=3)


def test_a_maker_that_uses_effects_says_so(tiny_llama: LanguageModel, trials: fv.Trials) -> None:
    with pytest.raises(ConfigError, match="function_vector needs effects"):
        make(tiny_llama, trials, "function_vector")


def test_impossible_arguments_are_refused(tiny_llama: LanguageModel, trials: fv.Trials, effects: fv.Effects) -> None:
    with pytest.raises(ConfigError, match="several relations; take one, such as trials"):
        fv.make_vector(tiny_llama, trials, "mean_difference", effects=effects)
    with pytest.raises(ConfigError, match="no maker called 'mean_diference'"):
        make(tiny_llama, trials, "mean_diference", effects=effects)
    with pytest.raises(ConfigError, match="no setting of set_heads called 'kk'"):
        make(tiny_llama, trials, "set_heads", effects=effects, kk=1)
    with pytest.raises(ConfigError, match="effects is a dict"):
        make(tiny_llama, trials, "mean_difference", effects={})


def test_a_maker_from_outside_is_known_by_its_name_and_may_need_no_effects(
    tiny_llama: LanguageModel, trials: fv.Trials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(
        monkeypatch, tmp_path, "a_maker", {"first": OUTSIDE}, makers.GROUP, "first_prompt = a_maker.first:FirstPrompt\n"
    )
    maker_classes.cache_clear()
    try:
        once, twice = (make(tiny_llama, trials, "first_prompt", factor=by) for by in (1.0, 2.0))
    finally:
        monkeypatch.undo()
        maker_classes.cache_clear()
    assert isinstance(once, fv.Vector)
    assert isinstance(twice, fv.Vector)
    assert once.name == "antonym@first_prompt"
    assert torch.equal(twice.values, (2 * once).values)
