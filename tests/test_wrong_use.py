"""Wrong use of the library gets one line that names the argument and what would be right."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fv
from fv.models.language_model import LanguageModel

QUIET = fv.Compute(progress=False)

PAIRS = [(f"word{i}", f"answer{i}") for i in range(30)]


@dataclass
class Notebook:
    """What a notebook holds when something goes wrong in it."""

    lm: LanguageModel
    other: LanguageModel
    trials: fv.Trials
    effects: fv.Effects
    vector: fv.Vector


@pytest.fixture(scope="module")
def held(tiny_llama: LanguageModel, tiny_gpt2: LanguageModel) -> Notebook:
    trials = fv.sample_trials({"r": PAIRS, "s": PAIRS[::-1]}, tiny_llama, demos=2, fit=2, held_out=4)
    effects = fv.indirect_effects(tiny_llama, trials)
    vector = fv.function_vector(tiny_llama, effects["r"], 3)
    return Notebook(tiny_llama, tiny_gpt2, trials, effects, vector)


Wrong = tuple[Callable[[Notebook], Any], str]
lib: Any = fv
"""The library without its types: every call below is wrong on purpose."""
RELATIONS: list[Wrong] = [
    (lambda h: lib.read_relations("no.csv"), r"There is no file or folder at .*no\.csv\. Set path"),
    (lambda h: lib.read_relations(names="antonym"), r"names='antonym' must be a list .*\['antonym'\]"),
    (lambda h: lib.read_relations(names=["antonyms"]), r"has no relation antonyms\. It has: .*antonym"),
    (lambda h: lib.read_relations(form="xml"), r"form='xml' must be one of auto, csv"),
    (lambda h: lib.read_relations(columns={"input": "x"}), r"columns names input; it may name q_id, exA and exB"),
    (lambda h: lib.sample_trials(PAIRS, h.lm), r"relations is a list, where \{.*\} .* is due"),
    (
        lambda h: lib.sample_trials({"r": "hot cold"}, h.lm),
        r"is a str, where a list such as \[\(\"hot\", \"cold\"\), …\] is due",
    ),
    (
        lambda h: lib.sample_trials({"r": [("hot",)]}, h.lm),
        r"line 1: is \('hot',\), where a pair of input and output",
    ),
    (lambda h: lib.sample_trials({"r": [*PAIRS, ("x", " ")]}, h.lm), r"line 31: column output is empty"),
    (lambda h: lib.sample_trials({"r": [("x", 3)]}, h.lm), r"line 1: column output does not hold text"),
    (lambda h: lib.sample_trials({}, h.lm), r"relations holds no pair"),
    (lambda h: lib.sample_trials({"r": PAIRS[:5]}, h.lm), r"r: \d+ of \d+ .* trials.*Ask for fewer|would work"),
    (lambda h: lib.sample_trials({"r": PAIRS}, h.lm, demos=0), r"demos=0 must be a whole number of 1 or more"),
    (lambda h: lib.sample_trials({"r": PAIRS}, h.lm, fit=2.5), r"fit=2\.5 must be a whole number"),
    (lambda h: lib.sample_trials({"r": PAIRS}, h.lm, template="QA"), r"no template called 'QA'.*qa"),
    (lambda h: lib.sample_trials({"r": PAIRS}, h.lm, template=3), r"template=3 must be a template's name"),
    (
        lambda h: lib.sample_trials({"r": PAIRS}, h.lm, corruption="none"),
        r"corruption='none' must be one of derange",
    ),
    (
        lambda h: lib.sample_trials({"r": PAIRS}, h.lm, add_special_tokens="yes"),
        r"add_special_tokens='yes' must be",
    ),
    (lambda h: lib.sample_trials({"r": PAIRS}, "smollm2"), r"lm is a str, where a model .* or a tokenizer is due"),
    (lambda h: h.trials.prompt(""), r"text='' must be the text"),
    (lambda h: h.trials.prompt("a", demos=1), r"demos=1 are of one relation: say trials\['r'\]"),
    (lambda h: h.trials["r"].prompt("a", demos=9), r"demos=9 must be from 0 to 2"),
    (lambda h: h.trials["t"], r"no trials of 't'; there are some of r, s"),
    (lambda h: lib.load_trials("no.json"), r"no\.json is missing"),
]
EFFECTS: list[Wrong] = [
    (lambda h: lib.indirect_effects(h.lm, {"r": PAIRS}), r"trials is a dict; pass the trials that fv\.sample_trials"),
    (lambda h: lib.indirect_effects(h.other, h.trials), r"trials were tokenised by another tokenizer than .*'s"),
    (lambda h: lib.indirect_effects(h.lm, h.trials, layers=3), r"layers=\[3\]: \[3\] out of range; .* 0 to 2"),
    (lambda h: lib.indirect_effects(h.lm, h.trials, heads=[4]), r"heads=\[4\]: \[4\] out of range; .* 0 to 3"),
    (lambda h: lib.indirect_effects(h.lm, h.trials, layers="most"), r"layers='most' must be all, a number from 0"),
    (lambda h: lib.indirect_effects(h.lm, h.trials, n_trials=0), r"n_trials=0 must be a whole number of 1 or more"),
    (lambda h: lib.Compute(engine="fast"), r"engine='fast' must be one of auto"),
    (lambda h: lib.Compute(max_rows=0), r"max_rows=0 must be a whole number of 2 or more"),
    (lambda h: lib.Compute(keep_mb=-1), r"keep_mb=-1 must be a whole number of 0 or more"),
    (lambda h: lib.Compute(progress="no"), r"progress='no' must be True or False"),
    (lambda h: lib.indirect_effects(h.lm, h.trials, compute="naive"), r"compute is a str; pass fv\.Compute\(engine="),
    (lambda h: h.effects["t"], r"No effects of 't' were measured, only of r, s"),
    (lambda h: h.effects.mean(["t"]), r"relations=\['t'\] must be some of r, s"),
    (lambda h: h.effects["r"].top(0), r"k=0 must be a whole number of 1 or more"),
    (lambda h: h.effects["r"].top(13), r"k=13 is more than the 12 heads"),
    (lambda h: h.effects["r"].top(1, "delta"), r"key='delta' must be one of mean_delta_logprob, mean_delta_p"),
    (lambda h: lib.load_effects("no.safetensors"), r"no\.safetensors is missing"),
    (lambda h: lib.function_vector(h.lm, h.effects), r"effects is a Effects; pass the effects of one relation"),
    (lambda h: lib.function_vector(h.lm, h.effects["r"], 2, heads=[(0, 1)]), r"k takes .*, and heads names them"),
    (lambda h: lib.function_vector(h.lm, h.effects["r"], heads=[(0, 4)]), r"heads holds \(0, 4\); .* head 0 to 3"),
    (lambda h: lib.function_vector(h.lm, h.effects["r"], heads=[(0, 1), (0, 1)]), r"heads names \(0, 1\) twice"),
    (lambda h: lib.function_vector(h.lm, h.effects["r"], heads=[]), r"heads is empty"),
    (lambda h: lib.function_vector(h.other, h.effects["r"], 2), r"effects are of the model .*, not .* Measure effects"),
    (lambda h: h.vector.at(), r"at\(\) takes a cell, such as result\.cell, or layer="),
    (lambda h: lib.Vector.of([1.0]), r"values is list; it must be a \(d_model,\) tensor"),
    (lambda h: lib.load_vector("no.safetensors"), r"no\.safetensors is missing"),
]
EVALUATION: list[Wrong] = [
    (lambda h: lib.evaluate(h.lm, h.vector.values, h.trials), r"vectors must be one or several Vectors"),
    (lambda h: lib.evaluate(h.lm, fv.Vector.of(torch.ones(3)), h.trials), r"is \(3,\), but .* takes \(40,\)"),
    (lambda h: lib.evaluate(h.lm, [h.vector, h.vector], h.trials), r"Two vectors are called r@k3"),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, layers=7), r"layers=\[7\]: \[7\] out of range"),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, alphas="big"), r"alphas='big' must be a finite number"),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, alpha_unit="norm"), r"alpha_unit='norm' must be one of"),
    (
        lambda h: lib.evaluate(h.lm, h.vector, h.trials, alpha_unit="residual"),
        r"alpha_unit=residual needs the norms .*: pass effects=…\.",
    ),
    (
        lambda h: lib.evaluate(h.lm, h.vector, h.trials, key="p"),
        r"key='p' must be one of mean_delta_logprob, mean_delta_p",
    ),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, dev_fraction=1), r"dev_fraction=1 must be 0 or more and below 1"),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, dev_fraction=0), r"dev_fraction=0 leaves no trials to choose"),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, controls="random"), r"controls='random' must be 'all', or"),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, controls=["random"]), r"no condition called 'random'.*Near it"),
    (
        lambda h: lib.evaluate(h.lm, h.vector, h.trials, controls=["random_heads"]),
        r"random_heads need effects .*: pass effects=…, as",
    ),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, effects=h.vector), r"effects is a Vector; pass"),
    (lambda h: lib.evaluate(h.other, h.vector, h.trials), r"another tokenizer"),
    (lambda h: lib.evaluate(h.lm, h.vector, h.trials, compute=None), r"compute is a NoneType; pass fv\.Compute\("),
    (lambda h: lib.plan(h.lm, h.trials, tflops=1, compute={}), r"compute is a dict; pass fv\.Compute\("),
    (
        lambda h: lib.plan(h.lm, h.trials, tflops=1, compute=fv.Compute(max_rows="auto")),
        r"max_rows=auto depends on the",
    ),
    (lambda h: lib.load_result("no.npz"), r"no\.npz is missing"),
    (
        lambda h: lib.open_run("nowhere"),
        r"nowhere is no run's folder: there is no artifacts/stepD_meta\.json in it",
    ),
]


@pytest.mark.parametrize("number", range(len([*RELATIONS, *EFFECTS, *EVALUATION])))
def test_wrong_use_is_refused_in_one_line_that_says_what_is_right(number: int, held: Notebook) -> None:
    call, message = [*RELATIONS, *EFFECTS, *EVALUATION][number]
    with pytest.raises((fv.FvError, KeyError)) as error:
        call(held)
    assert re.search(message, str(error.value), re.DOTALL), str(error.value)


def test_trials_without_held_out_ones_cannot_be_evaluated_on(held: Notebook) -> None:
    only_fit = fv.sample_trials({"r": PAIRS}, held.lm, demos=2, fit=2, held_out=0)
    with pytest.raises(fv.FvError, match=r"hold no eval trials; .* held_out="):
        fv.evaluate(held.lm, held.vector, only_fit, layers=0)


def test_a_vector_of_other_prompts_or_another_model_is_warned_of(held: Notebook) -> None:
    arrows = fv.sample_trials({"r": PAIRS}, held.lm, demos=2, fit=2, held_out=2, template="arrow")
    with pytest.warns(fv.FvWarning, match=r"The vector r is of prompts like 'Q: \{exA\}\\nA:', not"):
        fv.evaluate(held.lm, held.vector, arrows, layers=0, controls=[], n_unrelated=0, compute=QUIET)
    assert held.vector.origin is not None
    weights = {**held.vector.origin.weights, "weights_sha256": "0" * 64}
    elsewhere = replace(held.vector, origin=replace(held.vector.origin, weights=weights, model="elsewhere"))
    with pytest.warns(fv.FvWarning, match=r"of the model elsewhere, not"):
        fv.evaluate(
            held.lm,
            elsewhere,
            held.trials["r"],
            layers=0,
            controls=[],
            n_unrelated=0,
            compute=QUIET,
        )


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
@pytest.mark.parametrize("kind", ["trials", "effects", "vector", "result"])
def test_a_damaged_file_is_refused_by_name(kind: str, damage: str, held: Notebook, tmp_path: Path) -> None:
    result = fv.evaluate(held.lm, held.vector, held.trials["r"], layers=0, controls=[], n_unrelated=0, compute=QUIET)
    held_by: dict[str, Any] = {"trials": held.trials, "effects": held.effects, "vector": held.vector, "result": result}
    loads: dict[str, Callable[[Path], object]] = {
        "trials": fv.load_trials,
        "effects": fv.load_effects,
        "vector": fv.load_vector,
        "result": fv.load_result,
    }
    path = tmp_path / "file"
    held_by["vector" if kind == "effects" else "effects"].save(path) if damage == "other" else held_by[kind].save(path)
    if damage != "other":
        path.write_bytes(path.read_bytes()[:-100] if damage == "cut" else b"hello")
    with pytest.raises(fv.FvError, match=re.escape(str(path))):
        loads[kind](path)
