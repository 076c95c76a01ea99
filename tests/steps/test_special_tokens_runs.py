"""Runs and their special tokens: each goes on under the settings that give the same tokens, and under no others."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import BOS, MakeConfig, stepd_log
from tiny_runs import GRID, TinyRun, TinyRunIn

from entrypoints.flags import translate
from fv.config import Config
from fv.errors import ArtifactError
from fv.files import read_json
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.runs.completeness import finished_stepd
from fv.runs.paths import RunPaths
from fv.steps.model_holder import ModelHolder
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe

SPELLINGS = {"auto": "auto", "true": True, "false": False}

# Runs of another spelling


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_run_in: TinyRunIn, tiny_llama_folder: Path, bos_folder: Path
) -> dict[str, TinyRun]:
    """Runs with a finished StepD, by tokenizer: one run a spelling, named after it."""
    results = tmp_path_factory.mktemp("finished")
    small = {"data.qids": ["antonym"], "injection.fv": "all_qids", "injection.layer": 1}
    runs = {
        name: tiny_run_in(results / name).but(GRID, small, {"model.path": folder, "model.name": name})
        for name, folder in (("plain", tiny_llama_folder), ("bos", bos_folder))
    }
    for name, spelling in itertools.product(runs, SPELLINGS):
        run_stepd(spelled(runs[name], spelling, run_id=spelling))
    return runs


def spelled(run: TinyRun, spelling: str, **more: Any) -> Config:
    return run({"model.add_special_tokens": SPELLINGS[spelling]}, **more)


@pytest.mark.slow
@pytest.mark.parametrize(("there", "here"), [*itertools.product(SPELLINGS, SPELLINGS)])
@pytest.mark.parametrize("name", ["plain", "bos"])
def test_a_run_goes_on_under_a_spelling_exactly_where_its_tokens_are_the_same(
    make_config: MakeConfig,
    finished: dict[str, TinyRun],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    there: str,
    here: str,
) -> None:
    config = spelled(finished[name], here, run_id=there)
    # Weights are not needed to tell.
    monkeypatch.setattr(ModelHolder, "of", lambda *_: pytest.fail("the model was loaded"))
    if name == "plain" or (there == "false") == (here == "false"):
        assert run_stepd(config) == RunPaths.of(config).root
        assert finished_stepd(config).is_finished
        return
    told = rf"(?s)model\.add_special_tokens: there {SPELLINGS[there]!r}, here {SPELLINGS[here]!r}\n.*another run_id"
    for step in (run_stepd, run_stepe, run_step6):
        with pytest.raises(ArtifactError, match=told):
            step(config)


@pytest.mark.slow
def test_a_run_of_the_old_default_is_finished_under_the_new_one(finished: dict[str, TinyRun]) -> None:
    config = finished["plain"](run_id="false")
    assert read_json(RunPaths.of(config).stepd_meta)["config"]["model"]["add_special_tokens"] is False
    run_stepe(config)
    run_step6(config)
    assert read_json(RunPaths.of(config).step6 / "eval_meta.json")["special_tokens"] == []


@pytest.mark.slow
def test_other_differences_are_told_without_a_look_at_the_tokenizer(finished: dict[str, TinyRun]) -> None:
    config = finished["plain"]({"model.path": "/nowhere"}, seed=7, run_id="false")
    with pytest.raises(ArtifactError, match=r"seed: there 42, here 7") as refused:
        run_stepd(config)
    assert "add_special_tokens" not in str(refused.value)


@pytest.mark.slow
def test_an_interrupted_run_keeps_its_finished_relations_under_another_spelling(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_heads, asked = SharedPrefixEngine.patch_heads, []

    def interrupted(*args: Any) -> Any:
        asked.append(args)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return patch_heads(*args)

    monkeypatch.setattr(SharedPrefixEngine, "patch_heads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_stepd(tiny_run({"model.add_special_tokens": False}))
    run_stepd(tiny_run())
    assert len(asked) == 4  # one finished, one interrupted, and the two that were missing


# Flag-style scripts


@pytest.mark.slow
def test_flag_scripts_add_no_bos_warn_of_it_and_find_their_run_again(
    make_config: MakeConfig, bos_folder: Path, small_csv: Path, tmp_path: Path
) -> None:
    base = tmp_path / "relation" / "r"
    model = {"--model": str(bos_folder), "--seed": "42"}
    counts = {"--relation_n_trials_per_q": "3", "--relation_n_demos": "3"}
    flags = {**model, **counts, "--out_base_dir": str(base), "--relation_csv_path": str(small_csv)}
    light = ["compute.selfcheck=false", "compute.threads=1", "evaluation=grid"]
    config = make_config(*translate("stepd", flags), *light, entrypoint="stepd")
    assert config.model.add_special_tokens is False
    run_stepd(config)
    assert f"Prompts are encoded without {BOS}" in stepd_log(config)
    assert json.loads(RunPaths.of(config).snapshot.read_text())["meta"]["add_special_tokens"] is False

    for step, named in (("stepe", "--stepd_base_dir"), ("step6", "--sampled_trials_path")):
        where = {named: str(base if step == "stepe" else base / "artifacts" / "sampled_trials.json")}
        for given_model in (model, {}):
            found = make_config(*translate(step, {**given_model, **where}), *light, entrypoint=step)
            assert found.model == config.model
            assert finished_stepd(found).is_finished


@pytest.mark.slow
def test_flag_scripts_adopt_the_special_tokens_of_a_run_made_otherwise(
    make_config: MakeConfig, finished: dict[str, TinyRun], bos_folder: Path
) -> None:
    for spelling in SPELLINGS:
        paths = RunPaths.of(finished["bos"](run_id=spelling))
        overrides = translate("stepe", {"--stepd_base_dir": str(paths.root), "--model": str(bos_folder)})
        config = make_config(*overrides, "model.name=bos", entrypoint="stepe")
        assert config.model.add_special_tokens == SPELLINGS[spelling]
        assert finished_stepd(config).is_finished
