"""A prompt behind which the model gives no numbers ends a call with its name, whatever its part in the evaluation."""

from dataclasses import replace
from typing import Any

import pytest
from families import tiny_editable
from not_finite import not_finite

import fv
from fv.data.prompts import prompt_of
from fv.data.trials import Trials
from fv.errors import NotFiniteError
from fv.evaluation.grid import eval_parts
from fv.evaluation.unrelated_texts import read_unrelated
from fv.heads.effects import Effects
from fv.interventions.editable import EditableModel
from fv.models.prompt import Prompt

Q = "one"


@pytest.fixture(scope="module")
def lm() -> EditableModel:
    return replace(tiny_editable("llama", max_position_embeddings=512), fingerprint={"tokenizer_sha256": "0" * 64})


@pytest.fixture(scope="module")
def trials(lm: EditableModel) -> Trials:
    pairs = [(f"{a}{b}", f"{b}{a}") for a, b in zip("abcdefghijkl", "mnopqrstuvwx", strict=True)]
    return fv.sample_trials({Q: pairs}, lm, demos=2, fit=3, held_out=4)


@pytest.fixture(scope="module")
def effects(lm: EditableModel, trials: Trials) -> Effects:
    return fv.indirect_effects(lm, trials, compute=fv.Compute(progress=False))


def prompts(lm: EditableModel, trials: Trials, split: str, kind: str) -> list[Prompt]:
    own = [trial for trial in trials.snapshot.trials if trial.split == split]
    return [prompt_of(lm, trials.snapshot, trial, kind) for trial in own]


@pytest.mark.parametrize("screen", ["none", "gradient"])
@pytest.mark.parametrize("kind", ["clean", "corrupted", "zero_shot"])
def test_effects_of_a_prompt_without_numbers_are_refused_by_its_name(
    lm: EditableModel, trials: Trials, kind: str, screen: str
) -> None:
    bad = prompts(lm, trials, "fit", kind)[1]
    said = rf"after the {kind} prompt of the trial {trials.snapshot.trials[1].trial_id} of {Q} "
    if kind == "zero_shot":  # a few-shot prompt may begin as it does
        said = rf"after the (clean|zero-shot) prompt of the trial {Q}:fit:"
    with not_finite(lm, bad.token_ids), pytest.raises(NotFiniteError, match=said):
        fv.indirect_effects(lm, trials, screen=screen, verify=2, compute=fv.Compute(progress=False))


@pytest.mark.parametrize("engine", ["naive", "expanded", "shared_prefix"])
@pytest.mark.parametrize("part", ["dev", "test", "few_shot", "corrupted", "unrelated"])
def test_an_evaluation_on_a_prompt_without_numbers_is_refused_by_its_name(
    lm: EditableModel, trials: Trials, effects: Effects, part: str, engine: str
) -> None:
    vector = fv.function_vector(lm, effects[Q], k=2)
    settings: dict[str, Any] = {
        "layers": [0, 1],
        "compute": fv.Compute(engine=engine, progress=False),
        "n_unrelated": 2,
    }
    parts = eval_parts(trials.snapshot, [Q], None, 0.3, trials.snapshot.meta.seed)
    held_out = [trial for trial in trials.snapshot.trials if trial.split == "eval"]
    meant = next(trial for trial in held_out if parts[trial.trial_id] == ("dev" if part == "dev" else "test"))
    kind = {"few_shot": "clean", "corrupted": "corrupted"}.get(part, "zero_shot")
    if part == "unrelated":
        texts = [lm.encode(text, False) for text in read_unrelated(2)]
        bad, said = texts[1][: min(map(len, texts))], "the unrelated text 2"
    else:
        bad = list(prompt_of(lm, trials.snapshot, meant, kind).token_ids)
        said = f"the {kind.replace('_', '-')} prompt of the trial {meant.trial_id} of {Q}"
    with not_finite(lm, bad), pytest.raises(NotFiniteError, match=f"not finite after {said} .*float32"):
        fv.evaluate(lm, vector, trials, effects=effects, **settings)
