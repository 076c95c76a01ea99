"""Objects of another model, tokenizer or template: refused where two models' numbers would meet, else warned of."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from tiny_runs import TinyRun
from transformers import AutoModelForCausalLM, AutoTokenizer

import fv
from fv.data.origin import Origin
from fv.files import read_json
from fv.models.identity import Identity
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6

PAIRS = [("hot", "cold"), ("up", "down"), ("big", "small"), ("old", "new"), ("wet", "dry"), ("in", "out")]
QUICK: dict[str, Any] = {"n_unrelated": 0, "compute": fv.Compute(progress=False)}


def trials_of(lm: fv.EditableModel, template: str = "qa") -> fv.Trials:
    return fv.sample_trials({"r": PAIRS}, lm, demos=2, fit=2, held_out=2, template=template)


class Two(NamedTuple):
    """Two checkpoints of one shape and tokenizer, and what the first one made."""

    base: fv.EditableModel
    tuned: fv.EditableModel
    trials: fv.Trials
    effects: fv.Effects
    vector: fv.Vector


@pytest.fixture(scope="module")
def two(tiny_llama_folder: Path) -> Two:
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_folder)
    model, other = (AutoModelForCausalLM.from_pretrained(tiny_llama_folder) for _ in range(2))
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight *= 1.5
    base, tuned = (
        fv.wrap(each, tokenizer, name=name, selfcheck=False) for each, name in ((model, "base"), (other, "tuned"))
    )
    trials = trials_of(base)
    effects = fv.indirect_effects(base, trials, compute=fv.Compute(progress=False))
    return Two(base, tuned, trials, effects, fv.function_vector(base, effects["r"], k=3))


@pytest.fixture(params=["made here", "from a file"])
def foreign(request: pytest.FixtureRequest, two: Two, tmp_path: Path) -> Two:
    """The same, and what was made read back from its files."""
    if request.param == "made here":
        return two
    two.effects.save(tmp_path / "effects")
    two.vector.save(tmp_path / "vector")
    return two._replace(effects=fv.load_effects(tmp_path / "effects"), vector=fv.load_vector(tmp_path / "vector"))


def test_effects_of_another_model_make_no_vector_and_no_controls(foreign: Two) -> None:
    tuned, effects = foreign.tuned, foreign.effects
    for of in (effects["r"], effects.mean()):
        with pytest.raises(fv.FvError, match=r"effects are of the model base, not tuned\. Measure effects with this"):
            fv.function_vector(tuned, of, k=3)
        with pytest.warns(fv.FvWarning), pytest.raises(fv.FvError, match=r"effects are of the model base, not tuned\."):
            fv.evaluate(tuned, foreign.vector, foreign.trials, layers=0, effects=of, **QUICK)


def test_heads_of_another_model_may_be_named(foreign: Two) -> None:
    own = fv.indirect_effects(foreign.tuned, foreign.trials, compute=fv.Compute(progress=False))
    heads = foreign.effects["r"].top(3)
    assert fv.function_vector(foreign.tuned, own["r"], heads=heads).heads == tuple(heads)


def test_a_vector_of_another_model_is_warned_of_wherever_it_is_used_and_acts(foreign: Two) -> None:
    told = r"The vector r is of the model base, not tuned\."
    with pytest.warns(fv.FvWarning, match=told):
        result = fv.evaluate(foreign.tuned, foreign.vector, foreign.trials, layers=0, controls=[], **QUICK)
    assert any("of the model base, not tuned" in line for line in result.warnings)
    edit = foreign.vector.at(layer=1)
    with pytest.warns(fv.FvWarning, match=r"AddVector\.vector is of the model base, not tuned\.") as found:
        block = foreign.tuned.edited(edit)
    assert found[0].filename == __file__
    with block, torch.no_grad():
        foreign.tuned.model(torch.tensor([[1, 2, 3]]))


def test_what_a_model_made_is_used_with_it_without_a_word(foreign: Two) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", fv.FvWarning)
        vector = fv.function_vector(foreign.base, foreign.effects["r"], k=3)
        fv.evaluate(foreign.base, vector, foreign.trials, layers=0, effects=foreign.effects, controls=[], **QUICK)
        foreign.base.edited(vector.at(layer=1))


def test_effects_of_other_prompts_are_warned_of(two: Two) -> None:
    arrows = trials_of(two.base, "arrow")
    own = fv.Vector.of(torch.ones(40), "mine")
    with pytest.warns(fv.FvWarning, match=r"effects are of prompts like 'Q: .*', not"):
        fv.evaluate(two.base, own, arrows, layers=0, effects=two.effects, controls=[], **QUICK)


def test_a_result_knows_its_model_and_so_does_its_file(two: Two, tmp_path: Path) -> None:
    result = fv.evaluate(two.base, two.vector, two.trials, layers=0, controls=[], **QUICK)
    result.save(tmp_path / "result.npz")
    assert fv.load_result(tmp_path / "result.npz").origin == result.origin == Origin.of(two.base, two.trials.snapshot)


def test_a_model_in_memory_and_one_of_files_are_told_apart_by_name_and_tokenizer_alone(
    two: Two, tiny_llama_folder: Path
) -> None:
    loaded = fv.load_model(tiny_llama_folder, selfcheck=False)
    same = fv.wrap(loaded.model, loaded.tokenizer, name=loaded.name, selfcheck=False)
    assert Identity.of(loaded).differences(Identity.of(same)) == []
    with pytest.warns(fv.FvWarning, match=r"of the model base, and .* is not known to be the same"):
        fv.function_vector(loaded, two.effects["r"], k=3)


@pytest.mark.parametrize("part", ["demo", "query", "target"])
def test_a_difference_names_the_part_of_the_template_that_differs(two: Two, part: str) -> None:
    here = two.effects.origin
    there = replace(here, template=replace(here.template, **{part: f"{getattr(here.template, part)} {{exA}}{{exB}}"}))
    (line,) = there.differences(here)
    assert repr(getattr(here.template, part)) in line and repr(getattr(there.template, part)) in line


@pytest.mark.slow
def test_a_run_says_that_its_vector_file_is_of_another_model(tiny_run: TinyRun, two: Two, tmp_path: Path) -> None:
    own = tiny_run({"stats.n_resamples": 100}, analysis=[])
    run_pipeline(own)
    two.vector.save(tmp_path / "foreign.safetensors")
    fv.open_run(RunPaths.of(own).root).vectors["antonym"].save(tmp_path / "own.safetensors")
    said = {}
    for name in ("foreign", "own"):
        of_file = {"tag": name, "injection.fv": "file", "injection.fv_path": f"{tmp_path / name}.safetensors"}
        folder = run_step6(tiny_run({"injection.layer": 1}, of_file, analysis=[]))
        said[name] = [line for line in read_json(folder / "eval_summary.json")["warnings"] if "of the model" in line]
    assert said["own"] == [] and len(said["foreign"]) == 1
    assert said["foreign"][0].startswith("The vector file is of the model base")
