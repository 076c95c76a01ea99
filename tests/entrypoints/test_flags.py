# ruff: noqa: E501 - one case a line reads better than a wrapped one
"""The flag-style scripts: every flag of the source, its section 9 word for word, and honest refusals."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, run
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from records import write_begun

from entrypoints.flags import SCRIPTS, main, translate
from fv.config import Config, DataConfig
from fv.errors import ConfigError

SOURCE_FLAGS = {
    "stepd": """--relation_csv_path --relation_n_trials_per_q --relation_n_demos --seed --out_base_dir --layers --heads
        --score_key --model --model_spec --device --dtype --out_dir --fixed_out_dir --quant --n_mean_trials --n_trials""",
    "stepe": """--sampled_trials_path --fixed_trials_path --stepd_base_dir --stepd_artifacts_dir --run_id_stepD --score_key
        --metric --k --model --model_spec --device --dtype --quant --layers --alpha --n_eval_trials --seed --out_dir""",
    "step6": """--sampled_trials_path --fixed_trials_path --eval_scope --eval_qids --fv_source_qid --model --model_spec
        --device --dtype --quant --edit_layer --fv_global_path --fv_global_meta_path --n_eval --seed --out_dir""",
}
NAMES = {
    "stepd": "run_stepD_aie_head_sweep.py",
    "stepe": "run_stepE_topk_fv_and_eval.py",
    "step6": "run_step6_fv_injection_eval.py",
}
SECTION_9 = {
    "stepd": """--model gpt2 --model_spec gpt2 --device cpu --dtype fp32 --quant none --layers 0 --heads 0
        --relation_csv_path datasets/relation/relationA_ex.csv --relation_n_trials_per_q 1 --relation_n_demos 1
        --seed 42 --out_base_dir {base} --score_key mean_delta_logprob --n_mean_trials 1 --n_trials 1""",
    "stepe": """--stepd_base_dir {base} --sampled_trials_path {base}/artifacts/sampled_trials.json --k 1 --model gpt2
        --model_spec gpt2 --device cpu --dtype fp32 --quant none --layers 0 --alpha 1.0 --n_eval_trials 4 --seed 42
        --out_dir {base}/artifacts""",
    "step6": """--model gpt2 --model_spec gpt2 --device cpu --dtype fp32 --quant none --edit_layer 0
        --fv_global_path {base}/artifacts/fv_global_resid.pt
        --fv_global_meta_path {base}/artifacts/fv_global_resid_meta.json
        --sampled_trials_path {base}/artifacts/sampled_trials.json --eval_scope all_qids --n_eval 4 --seed 42
        --out_dir {base}/artifacts/step6""",
}


@pytest.mark.parametrize("step", SCRIPTS)
def test_every_flag_of_the_source_is_in_the_table(step: str) -> None:
    assert set(SOURCE_FLAGS[step].split()) <= set(SCRIPTS[step])


@pytest.mark.slow
@pytest.mark.usefixtures("hub_cache")
def test_section_9_runs_word_for_word(tmp_path: Path) -> None:
    base = tmp_path / "results_fv" / "relation" / "from-flags"
    printed = {}
    for step, flags in SECTION_9.items():
        words = shlex.split(flags.format(base=base))
        printed[step] = run(f"scripts/{NAMES[step]}", *words).stdout.splitlines()[0]
    summary = json.loads((base / "artifacts/step6/eval_summary.json").read_text())
    assert [(row["fv"], row["layer"], row["alpha"], row["n_trials"]) for row in summary["rows"]] == [
        ("global", 0, 1.0, 1)
    ] * 3
    assert (base / "artifacts/stepE_eval.json").exists()

    # The printed command is the same run: given again, it finds every step complete.
    for step, line in printed.items():
        command = shlex.split(line)
        assert command[:3] == ["python", "-m", f"entrypoints.{step}"]
        assert "is complete already" in run(*command[1:]).stderr


@pytest.mark.parametrize(
    ("step", "flags", "overrides"),
    [
        ("stepd", {"--out_base_dir": "r/relation/a", "--layers": "0,2", "--heads": "all"}, ["score.layers=[0,2]", "score.heads=all"]),
        ("stepd", {"--out_dir": "r/relation/a/artifacts", "--n_trials": "5"}, ["run_id=a", "results_dir=r", "score.n_trials=5"]),
        ("stepd", {"--fixed_out_dir": "r/relation/a"}, ["run_id=a", "data.split=shared"]),
        ("stepe", {"--run_id_stepD": "a", "--metric": "mean_delta_p"}, ["run_id=a", "results_dir=results_fv", "score.key=mean_delta_p"]),
        ("stepe", {"--stepd_artifacts_dir": "r/relation/a/artifacts", "--out_dir": "r/relation/a/artifacts/t"}, ["tag=t"]),
        ("stepe", {"--fixed_trials_path": "r/relation/a/artifacts/sampled_trials.json"}, ["run_id=a"]),
        ("step6", {"--fixed_trials_path": "r/relation/a/artifacts/sampled_trials.json", "--eval_scope": "qid_list", "--eval_qids": "x,y z"},
         ['eval_scope=qid_list', 'eval_scope.qids=[x,"y z"]']),
        ("step6", {"--sampled_trials_path": "r/relation/a/artifacts/sampled_trials.json", "--fv_source_qid": "x"},
         ["injection.fv=qid", "injection.fv_source_qid=x"]),
        ("step6", {"--sampled_trials_path": "r/relation/a/artifacts/sampled_trials.json", "--fv_global_path": "v.pt"},
         ["injection.fv=file", "injection.fv_path=v.pt"]),
        ("step6", {"--sampled_trials_path": "r/relation/a/artifacts/sampled_trials.json"}, ["injection.fv=global"]),
        ("stepd", {"--out_base_dir": "r/relation/a", "--model": "org/name"}, ["model=local", "model.name=name", "model.id=org/name"]),
    ],
)  # fmt: skip
def test_flags_become_overrides(step: str, flags: dict[str, str], overrides: list[str]) -> None:
    assert set(overrides) <= set(translate(step, flags))


def test_stepds_script_says_the_sources_number_of_fit_trials_where_no_flag_does() -> None:
    run_id = {"--out_base_dir": "r/relation/a"}
    assert "data.n_trials_per_q=12" in translate("stepd", run_id)
    given = translate("stepd", {**run_id, "--relation_n_trials_per_q": "5"})
    assert [line for line in given if line.startswith("data.n_trials_per_q=")] == ["data.n_trials_per_q=5"]


def test_later_scripts_keep_the_number_of_fit_trials_of_their_run(tmp_path: Path) -> None:
    folder = tmp_path / "relation" / "r" / "artifacts"
    folder.mkdir(parents=True)
    for count in (12, 36):
        write_begun(folder / "stepD_meta.json", Config(data=DataConfig(n_trials_per_q=count)))
        for step in ("stepe", "step6"):
            said = translate(step, {"--sampled_trials_path": str(folder / "sampled_trials.json")})
            # What is the default need not be said.
            assert ("data.n_trials_per_q=12" in said) == (count == 12)


@pytest.mark.parametrize(
    ("step", "flags", "message"),
    [
        ("stepe", {"--score_key": "a", "--metric": "b", "--run_id_stepD": "r"}, "--score_key and --metric contradict"),
        ("stepe", {"--stepd_base_dir": "r/relation/a", "--run_id_stepD": "b"}, "contradicts the run's folder"),
        ("stepe", {"--stepd_base_dir": "r/relation/a", "--sampled_trials_path": "r/relation/b/artifacts/sampled_trials.json"}, "contradict"),
        ("stepd", {"--out_base_dir": "/tmp/x"}, "<results_dir>/relation/<run_id>"),
        ("stepd", {"--seed": "1"}, "Name the run"),
        ("stepd", {"--out_base_dir": "r/relation/a", "--layers": "first"}, "must be all or numbers"),
        ("stepe", {"--stepd_base_dir": "r/relation/a", "--out_dir": "elsewhere"}, "outputs go to"),
        ("step6", {"--fv_global_path": "r/relation/a/artifacts/fv_global_resid.pt", "--fv_global_meta_path": "m.json"}, "next to"),
        ("step6", {"--fv_global_path": "r/relation/a/artifacts/fv_global_resid.pt", "--fv_source_qid": "x"}, "contradicts"),
        ("step6", {"--sampled_trials_path": "r/relation/a/artifacts/sampled_trials.json", "--eval_scope": "some"}, "choose from auto"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(step: str, flags: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate(step, flags)


def test_an_unknown_flag_is_an_error_and_not_ignored() -> None:
    done = run("scripts/run_stepD_aie_head_sweep.py", "--relation_csv", "x", "--temperature", "1", code=2)
    assert "unrecognized arguments: --relation_csv x --temperature 1" in done.stderr


def test_scripts_run_outside_the_repository(tmp_path: Path) -> None:
    import sys

    script = ROOT / "scripts" / NAMES["stepd"]
    done = subprocess.run([sys.executable, script, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "sets data.n_demos" in done.stdout


@pytest.fixture(scope="module")
def finished_stepd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, where only the artifacts of StepD's settings are looked at."""
    folder = tmp_path_factory.mktemp("flags") / "relation" / "r"
    (folder / "artifacts").mkdir(parents=True)
    return folder


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=4, unique=True))
def test_any_text_of_a_flag_or_of_the_runs_settings_survives_the_override_grammar(
    finished_stepd: Path, items: list[str]
) -> None:
    meta = finished_stepd / "artifacts" / "stepD_meta.json"
    write_begun(meta, Config(data=DataConfig(qids=items)))
    flags = {"--sampled_trials_path": str(meta.with_name("sampled_trials.json")), "--fv_source_qid": items[0]}
    overrides = OverridesParser.create().parse_overrides(translate("step6", flags))
    values = {override.key_or_group: override.value() for override in overrides}
    assert [str(item) for item in values["data.qids"]] == sorted(items)
    assert str(values["injection.fv_source_qid"]) == items[0]


@pytest.mark.parametrize("step", SCRIPTS)
def test_every_flag_says_what_it_does_in_words(
    step: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [NAMES[step], "--help"])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as done:
        main(step)
    said = capsys.readouterr().out.partition("options:")[2].split()
    starts = [said.index(flag) for flag in SCRIPTS[step]]
    assert done.value.code == 0 and starts == sorted(starts)
    for key, start, end in zip(SCRIPTS[step].values(), starts, [*starts[1:], len(said)], strict=True):
        _, value, first, second, *more = said[start:end]
        assert value == "VALUE" and more and (first != "sets" or second == f"{key}:"), said[start:end]
