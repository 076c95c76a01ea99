"""The commands as a user types them: in a process of their own."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commands import RESULTS, hub, module, run

import fv


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.n_demo=3", "There is no setting called 'data.n_demo'. Near it: data.n_demos"),
        ("data.n_demos=many", "'many' of type 'str' could not be converted to Integer"),
        ("compute.sweep=quick", r"Invalid value 'quick', expected one of [auto, shared_prefix, expanded, naive]"),
        ("model=gpt5", "There is no choice of model called 'gpt5'. Near it: gpt2"),
        ("analysis=[cost,transfers]", "There is no analysis called 'transfers'. Near it: transfer."),
        ("analysis=[nope]", "There are baselines, cost, null, ranking_stability, transfer, default."),
        ("injection.layer=[1,-2]", "injection.layer=[1, -2] must be all, a number from 0, or a list"),
        ("eval_scope=qid_list", "eval_scope=qid_list and eval_scope.qids=[a,b] go together"),
        ("compute.device=cuda", "compute.strict=false"),
    ],
)
def test_a_wrong_setting_fails_before_torch_is_imported(override: str, message: str, tmp_path: Path) -> None:
    # A torch that cannot be imported stands in front of the real one.
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    done = module("stepd", override, code=1, PYTHONPATH=str(tmp_path))
    assert message in done.stderr
    assert "Traceback" not in done.stderr and "torch was imported" not in done.stderr


def test_help_and_config_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    assert "injection.alpha" in module("step6", "--help", PYTHONPATH=str(tmp_path)).stdout
    assert (
        "run_id: smollm2-default-seed42"
        in module("stepd", "--cfg", "job", "--resolve", PYTHONPATH=str(tmp_path)).stdout
    )


@pytest.mark.slow
def test_an_error_prints_no_traceback_unless_asked(tiny_overrides: list[str]) -> None:
    wrong = [*tiny_overrides, "data.qids=[nope]"]
    done = module("stepd", *wrong, code=1)
    assert "has no relation nope. It has: antonym" in done.stderr and "Traceback" not in done.stderr
    assert "Traceback" in module("stepd", *wrong, code=1, HYDRA_FULL_ERROR="1").stderr


def test_an_unreachable_hub_gives_one_line_with_three_ways() -> None:
    done = module("stepd", "model=gpt2_medium", "seed=42", code=1)  # a model that `hub_cache` does not hold
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Model ")]
    assert "openai-community/gpt2-medium" in line and str(hub()) in line
    assert all(way in line for way in ("(1)", "(2)", "model.path=", "(3)", "model=smollm2"))


@pytest.mark.slow
@pytest.mark.usefixtures("hub_cache")
def test_the_owners_own_example_runs(tmp_path: Path, tiny_overrides: list[str]) -> None:
    smaller = [o for o in tiny_overrides if not o.startswith("model")]
    module("stepd", "model=gpt2", "seed=42", *smaller)
    meta = json.loads((tmp_path / "relation/r/artifacts/stepD_meta.json").read_text())
    assert meta["model"]["revision"] == "607a30d783dfa663caf39e06633721c8d4cfcd7e"
    assert meta["selfcheck"] != {}


@pytest.mark.slow
def test_a_sweep_is_gathered_into_what_a_single_job_writes(tiny_overrides: list[str], tmp_path: Path) -> None:
    module("stepd", *tiny_overrides)
    module("stepe", *tiny_overrides)
    swept = module("step6", "-m", *tiny_overrides, "injection.layer=0,1,2", "injection.alpha=0.5,1.0,2.0")
    assert "#8" in swept.stdout
    module("step6", *tiny_overrides, "injection.layer=[0,1,2]", "injection.alpha=[0.5,1.0,2.0]", "tag=single")
    step6 = tmp_path / "relation/r/artifacts/step6"
    for name in ("eval_summary.json", "eval_trials.jsonl"):
        assert (step6 / name).read_bytes() == (step6 / "single" / name).read_bytes()
    gathered, single = (json.loads((f / "eval_meta.json").read_text()) for f in (step6, step6 / "single"))
    assert gathered["settings"] == single["settings"] and len(gathered["gathered_cells"]) == 9

    # A sweep with a failing job keeps the cells that are there.
    cells = {p: p.stat().st_mtime_ns for p in step6.glob("cells/*/eval_summary.json")}
    failed = module("step6", "-m", *tiny_overrides, "injection.layer=0,1,2,7", "injection.alpha=0.5,1.0,2.0", code=1)
    assert "allows 0 to 2" in failed.stderr
    assert {p: p.stat().st_mtime_ns for p in cells} == cells
    summary = (step6 / "eval_summary.json").read_bytes()
    module("gather", *tiny_overrides)
    assert (step6 / "eval_summary.json").read_bytes() == summary


@pytest.mark.slow
def test_a_sweeps_summary_does_not_replace_another_one(tiny_overrides: list[str], tmp_path: Path) -> None:
    module("pipeline", *tiny_overrides, "injection.layer=1", "injection.alpha=3")
    summary = tmp_path / "relation/r/artifacts/step6/eval_summary.json"
    before = summary.read_bytes()
    done = module("step6", "-m", *tiny_overrides, "injection.layer=0,1", code=1)
    assert "injection.alpha: there [3.0], here [1.0]" in done.stderr and "Traceback" not in done.stderr
    assert summary.read_bytes() == before and not (summary.parent / "cells").exists()
    module("step6", "-m", *tiny_overrides, "injection.layer=0,1", "overwrite=true")
    assert json.loads(summary.read_text())["layers"] == [0, 1]


@pytest.mark.slow
def test_a_sweep_over_seeds_says_why_grids_alone_are_not_averaged(tiny_overrides: list[str], tmp_path: Path) -> None:
    seeds = [o for o in tiny_overrides if not o.startswith("run_id")] + ["data.qids=[antonym]", "injection.layer=1"]
    done = module("pipeline", "-m", *seeds, "seed=1,2")
    (line,) = [line for line in done.stderr.splitlines() if "averaged over the seeds 1, 2" in line]
    assert "evaluation=full" in line and len(list(tmp_path.glob("relation/*/artifacts/step6/eval_summary.json"))) == 2
    assert not (tmp_path / "over_seeds").exists()


@pytest.mark.slow
def test_the_pipeline_ends_with_a_table_and_the_runs_path(tiny_overrides: list[str], tmp_path: Path) -> None:
    done = module("pipeline", *tiny_overrides, "injection.fv=all_qids", "eval_scope=in_domain")
    for word in ("antonym", "verb_past", "→", "top heads", "among 3 cells", str(tmp_path / "relation" / "r")):
        assert word in done.stdout
    assert "\r" not in done.stderr and "━" not in done.stderr, "progress bars belong on terminals only"


def test_console_scripts_are_installed() -> None:
    script = Path(sys.executable).parent / "fv-stepd"
    done = subprocess.run([script, "--cfg", "job", "--resolve"], capture_output=True, text=True, check=True)
    assert "relation_csv_path: datasets/relation/default.csv" in done.stdout


def test_tests_and_their_commands_are_kept_from_the_users_results(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="at the user's results"):
        list(RESULTS.iterdir())
    with pytest.raises(AssertionError, match="at the user's results"):
        (RESULTS / "relation" / "smollm2-default-seed42").mkdir()
    (tmp_path / "look.py").write_text(f"open({str(RESULTS / 'multirun' / 'cell.json')!r})")
    assert "at the user's results" in run(str(tmp_path / "look.py"), code=1).stderr


@pytest.mark.slow
def test_every_step_prints_what_it_found(tiny_overrides: list[str]) -> None:
    small = [*tiny_overrides, "data.qids=[antonym]", "injection.layer=1"]
    for name, words in (("stepd", "effects of heads"), ("stepe", "Rankings of heads"), ("step6", "Zero-shot answers")):
        assert words in module(name, *small).stdout
    shown = module("report", *small).stdout
    assert all(words in shown for words in ("effects of heads", "Rankings of heads", "Zero-shot answers"))


@pytest.mark.slow
def test_a_sweep_prints_the_gathered_table_alone(tiny_overrides: list[str]) -> None:
    done = module("pipeline", "-m", *tiny_overrides, "data.qids=[antonym]", "injection.layer=0,1")
    assert done.stdout.count("Zero-shot answers") == 1 and "among 2 cells" in done.stdout
    assert "effects of heads" not in done.stdout


@pytest.mark.slow
def test_a_quiet_command_prints_nothing_and_a_verbose_one_more(tiny_overrides: list[str], tmp_path: Path) -> None:
    small = [*tiny_overrides, "data.qids=[antonym]", "injection.layer=1"]
    quiet = module("pipeline", *small, "quiet=true")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert "INFO" in (tmp_path / "relation/r/logs/stepD_aie.log").read_text()
    assert "Writing" in module("pipeline", *small, "run_id=r2", "hydra.verbose=true").stderr
    assert "Writing" not in module("pipeline", *small, "run_id=r3").stderr
    assert "has no relation" in module("stepd", *small, "data.qids=[nope]", "quiet=true", code=1).stderr


COMMANDS = ("stepd", "stepe", "step6", "pipeline", "analyse", "gather", "clean", "report", "data", "models")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_what_it_does_and_explains_its_settings(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    help_of(name, monkeypatch, "--help")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"python -m entrypoints.{name} [key=value …]" and len(lines[2]) > 20
    told = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ") and len(line.split()) > 1}
    assert {"seed", "quiet", "-m", "--version"} <= told.keys()
    assert ("score.k" in told) == (name in ("stepd", "stepe", "step6", "pipeline"))
    assert max(map(len, lines)) <= 80


def help_of(name: str, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", [name, *words])
    importlib.import_module(f"entrypoints.{name}").main()


@pytest.mark.parametrize(("name", "word"), [("data", "sample"), ("data", "check"), ("models", "check")])
def test_commands_with_a_first_word_explain_it_also_behind_it(
    name: str, word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    help_of(name, monkeypatch, word, "-h")
    assert re.search(rf"^{word} {{3,}}\w", capsys.readouterr().out, re.MULTILINE)


def test_the_version_is_our_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in COMMANDS:
        help_of(name, monkeypatch, "--version")
    assert {*capsys.readouterr().out.splitlines()} == {f"function-vectors {fv.__version__}"}


@pytest.mark.slow
def test_settings_may_stand_on_both_sides_of_the_sign_of_a_sweep(tiny_overrides: list[str], tmp_path: Path) -> None:
    small = [*tiny_overrides, "data.qids=[antonym]"]
    done = module("pipeline", "injection.layer=0,1", "-m", *small)
    assert "among 2 cells" in done.stdout
    assert (tmp_path / "relation/r/artifacts/step6/eval_summary.json").exists()
