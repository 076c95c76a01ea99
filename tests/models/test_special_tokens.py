"""`model.add_special_tokens`: BOS where the tokenizer adds it, and a warning where it is left out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import module
from conftest import BOS, BOS_ID, MakeConfig, load_local, loaded, stepd_log, with_template
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import TinyRun
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

import fv
from fv.config import ModelConfig
from fv.data.prompts import prompt_of
from fv.data.relations import read_configured
from fv.data.sampling import sample_snapshot
from fv.data.snapshot import Snapshot
from fv.errors import ConfigError, TrialError
from fv.evaluation.cost import encoded_alike
from fv.evaluation.questions import RelationQuestions
from fv.evaluation.unrelated_texts import read_unrelated
from fv.files import read_json
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import added_tokens, adds_special_tokens, special_tokens_warning, used_tokens
from fv.report.terminal import print_report
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.steps.stepd import run_stepd

SPELLINGS: tuple[str | bool, ...] = ("auto", True, False)


@pytest.fixture
def bos_run(tiny_run: TinyRun, bos_folder: Path) -> TinyRun:
    """A run of a second on a local folder whose tokenizer adds BOS; nothing is said of special tokens."""
    return tiny_run.but({"model.path": bos_folder})


# The setting


def test_special_tokens_are_the_tokenizers_own_by_default(make_config: MakeConfig, bos_folder: Path) -> None:
    assert make_config().model.add_special_tokens == "auto"
    assert make_config("model=local", f"model.path={bos_folder}").model.add_special_tokens == "auto"
    for value in (True, False):
        assert make_config(f"model.add_special_tokens={value}").model.add_special_tokens is value


@pytest.mark.parametrize("value", ["yes", "Auto", "true", "", 1, 0, 1.0, None, ["auto"], {"auto": True}])
def test_any_other_value_is_refused_with_the_three_there_are(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^add_special_tokens=.* must be auto .* true or false"):
        ModelConfig(add_special_tokens=value)


@pytest.fixture(scope="module")
def tokenizer(smollm2_folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(smollm2_folder)


@settings(deadline=None)
@given(template=st.lists(st.sampled_from([BOS, "<|im_end|>"]), max_size=3), closing=st.booleans())
def test_the_tokens_a_tokenizer_adds_are_named_in_order(tokenizer: Any, template: list[str], closing: bool) -> None:
    words = ["$A", *template] if closing else [*template, "$A"]
    ids = [(BOS, BOS_ID), ("<|im_end|>", 2)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=" ".join(words), special_tokens=ids)
    added = added_tokens(tokenizer)
    assert sorted(added) == sorted(template) and list(dict.fromkeys(added)) == list(dict.fromkeys(template))
    found = [adds_special_tokens(tokenizer, setting) for setting in ("auto", True, False)]
    assert found == [bool(template), bool(template), False]
    assert used_tokens(tokenizer, True) == added and used_tokens(tokenizer, False) == []
    warning = special_tokens_warning(tokenizer, used=False)
    assert (warning is not None) == bool(template)
    assert all(token in str(warning) for token in template)
    assert special_tokens_warning(tokenizer, used=bool(template)) is None


def test_the_models_that_ship_have_no_special_tokens_to_add(tiny_lm: LanguageModel, smollm2_folder: Path) -> None:
    for tokenizer in (tiny_lm.tokenizer, AutoTokenizer.from_pretrained(smollm2_folder)):
        assert added_tokens(tokenizer) == []
        assert not any(adds_special_tokens(tokenizer, setting) for setting in ("auto", True, False))


# Prompts


def sampled(run: TinyRun, spelling: str | bool) -> tuple[LanguageModel, Snapshot]:
    config = run({"model.add_special_tokens": spelling})
    lm = loaded(config)
    return lm, sample_snapshot(
        read_configured(config.data), config.data, config.seed, lm, config.model.add_special_tokens
    )


@pytest.mark.parametrize(("spelling", "used"), [("auto", True), (True, True), (False, False)])
def test_every_prompt_starts_with_the_tokenizers_bos_unless_it_is_left_out(
    bos_run: TinyRun, spelling: str | bool, used: bool
) -> None:
    lm, snapshot = sampled(bos_run, spelling)
    assert snapshot.meta.add_special_tokens is used
    trial = snapshot.trials[0]
    asked = RelationQuestions(lm, snapshot, trial.q_id)
    prompts = {
        "clean": prompt_of(lm, snapshot, trial, "clean").token_ids,
        "corrupted": prompt_of(lm, snapshot, trial, "corrupted").token_ids,
        **{f"question {kind}": asked.ask(trial, kind).token_ids for kind in ("zero_shot", "clean", "corrupted")},
    }
    texts = encoded_alike(lm, read_unrelated(2), snapshot.meta.add_special_tokens)
    prompts |= {f"unrelated {i}": tuple(ids) for i, ids in enumerate(texts)}
    assert len({len(ids) for ids in texts}) == 1
    assert {name: ids[:1] == (BOS_ID,) for name, ids in prompts.items()} == dict.fromkeys(prompts, used)
    assert all(BOS_ID not in ids[1:] for ids in prompts.values())


def test_auto_and_true_give_one_snapshot_and_false_the_same_trials(bos_run: TinyRun) -> None:
    auto, true, false = (sampled(bos_run, spelling)[1] for spelling in SPELLINGS)
    assert auto == true
    assert auto.trials == false.trials and auto.meta != false.meta


def test_a_tokenizer_that_adds_nothing_has_one_snapshot_under_every_spelling(tiny_run: TinyRun) -> None:
    auto, true, false = (sampled(tiny_run, spelling)[1] for spelling in SPELLINGS)
    assert auto == true == false and auto.meta.add_special_tokens is False


@pytest.mark.slow
def test_a_tokenizer_that_closes_every_text_is_refused_with_the_setting_that_helps(
    tiny_run: TinyRun, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    folder = with_template(tmp_path / "closing", tiny_llama_folder, f"$A {BOS}")
    with pytest.raises(TrialError, match=r"boundary mismatch.*model\.add_special_tokens=false leaves it out"):
        run_stepd(tiny_run({"model.path": folder}))
    run_stepd(tiny_run({"model.path": folder, "model.add_special_tokens": False}))


# What is told


def test_stepd_warns_of_a_bos_left_out_once_and_by_name(bos_run: TinyRun) -> None:
    left_out = bos_run({"model.add_special_tokens": False})
    run_stepd(left_out)
    warnings = [line for line in stepd_log(left_out).splitlines() if "special_tokens" in line]
    assert len(warnings) == 1
    assert f"WARNING fv.steps.stepd: Prompts are encoded without {BOS}" in warnings[0]
    assert "model.add_special_tokens=auto" in warnings[0]


@pytest.mark.slow
def test_every_summary_warns_of_a_bos_left_out(bos_run: TinyRun, capsys: pytest.CaptureFixture[str]) -> None:
    told = f"Prompts are encoded without {BOS}"
    for tag, spelling in (("with", "auto"), ("without", False)):
        step6 = run_pipeline(bos_run({"data.qids": ["antonym"], "model.add_special_tokens": spelling}, run_id=tag))
        print_report(step6)
        said = " ".join(capsys.readouterr().out.split())
        warnings = read_json(step6 / "eval_summary.json")["warnings"]
        expected = tag == "without"
        assert any(told in line for line in warnings) == (f"Mind: {told}" in said) == expected


@pytest.mark.parametrize("spelling", ["auto", False])
def test_a_notebooks_result_warns_of_a_bos_left_out(bos_folder: Path, small_csv: Path, spelling: str | bool) -> None:
    lm, relations = load_local(bos_folder), fv.read_relations(small_csv, names=["antonym"])
    trials = fv.sample_trials(relations, lm, demos=2, fit=2, held_out=2, add_special_tokens=spelling)
    vector = fv.Vector.of(torch.ones(lm.d_model))
    result = fv.evaluate(lm, vector, trials, layers=1, controls=[], n_unrelated=0)
    assert any(f"Prompts are encoded without {BOS}" in line for line in result.warnings) == (spelling is False)


@pytest.mark.parametrize("spelling", ["auto", True])
def test_stepd_is_silent_where_the_tokenizer_has_its_way(bos_run: TinyRun, spelling: str | bool) -> None:
    config = bos_run({"model.add_special_tokens": spelling})
    run_stepd(config)
    assert "special_tokens" not in stepd_log(config)
    assert read_json(RunPaths.of(config).stepd_meta)["special_tokens"] == [BOS]


def test_a_true_that_adds_nothing_is_told(tiny_run: TinyRun) -> None:
    config = tiny_run({"model.add_special_tokens": True})
    run_stepd(config)
    assert "model.add_special_tokens=true adds nothing" in stepd_log(config)
    assert read_json(RunPaths.of(config).stepd_meta)["special_tokens"] == []


@pytest.mark.slow
@pytest.mark.parametrize(("entrypoint", "action"), [("data", "check"), ("data", "sample"), ("models", "check")])
def test_looking_at_data_or_a_model_warns_of_a_bos_left_out(
    bos_folder: Path, small_csv: Path, entrypoint: str, action: str
) -> None:
    words = [action, "model=local", f"model.path={bos_folder}"]
    if entrypoint == "data":
        words += [f"data.relation_csv_path={small_csv}", "data.n_trials_per_q=3", "data.n_eval_trials_per_q=3"]
    shown, left_out = module(entrypoint, *words), module(entrypoint, *words, "model.add_special_tokens=false")
    assert f"Prompts are encoded without {BOS}" in left_out.stderr
    assert "Prompts are encoded without" not in shown.stderr
    if action == "sample":
        assert "<special>|Q" in shown.stdout and "<special>" not in left_out.stdout
    if entrypoint == "models":
        assert BOS in shown.stdout and BOS not in left_out.stdout


def test_the_list_of_models_says_what_their_configurations_say() -> None:
    lines = module("models", "list").stdout.splitlines()
    # A table that is too wide is printed as several, each with the name in front.
    told = {word for line in lines if line.split()[:1] == ["gemma3_270m"] for word in line.split()}
    assert {"google/gemma-3-270m", "gemma3_text", "auto"} <= told
