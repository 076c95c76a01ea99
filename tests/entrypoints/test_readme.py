"""The README's commands run, at small settings, and what else it says to type is taken."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import ROOT, module
from conftest import MakeConfig

from entrypoints.command_line import with_null_named

README = (ROOT / "README.md").read_text(encoding="utf-8")
START = "python -m entrypoints."
BLOCKS = [
    [line for line in block.splitlines() if line.startswith(START)]
    for block in re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
]
COMMANDS = [block for block in BLOCKS if block]
"""The commands of each block, which are typed one after the other."""
GAPS = ("…", "<", "(", "→", "make ", "key=value")
"""Signs of words that are not typed as they stand."""
SMALL = [
    *("evaluation=grid", "compute.selfcheck=false", "compute.threads=1", "score.k=2", "injection.layer=1"),
    *("data.n_trials_per_q=2", "data.n_demos=2", "data.n_eval_trials_per_q=3"),
]


def in_the_text() -> Iterator[list[str]]:
    """Words of settings that stand in the text and its tables, of commands too, but for those with a gap to fill in."""
    text = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    for said in re.findall(r"`([^`\n]+)`", text):
        if "=" in said and not any(sign in said for sign in GAPS):
            yield [word for word in shlex.split(said) if "=" in word]


@pytest.fixture
def typed(tiny_llama_folder: Path, small_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to type commands in, with a relation file and a model where the README has them."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(small_csv, "my.csv")
    Path("folder").symlink_to(tiny_llama_folder)
    return tmp_path


@pytest.mark.slow
@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: shlex.split(block[0])[2])
def test_every_command_runs(block: list[str], typed: Path) -> None:
    for line in block:
        name, *words = shlex.split(line.replace("/path/to/folder", str(typed / "folder")), comments=True)[2:]
        if renamed := re.search(r"q_id: (\w+), exA: (\w+), exB: (\w+)", line):
            text = Path("my.csv").read_text(encoding="utf-8")
            Path("my.csv").write_text(text.replace("q_id,exA,exB", ",".join(renamed.groups())), encoding="utf-8")
        # The embedded model would take its time: a tiny one stands in for it.
        model = [] if "model=" in line else ["model=local", f"model.path={typed / 'folder'}"]
        few = [] if "my.csv" in line or "example" in line else ["data.qids=[antonym]"]
        if words[-1:] == ["run_id=demo"] and not Path("results_fv/relation/demo").exists():
            full = [word for word in SMALL if word != "evaluation=grid"]
            module(
                "pipeline",
                *model,
                *few,
                *full,
                "injection.fv=all_qids",
                "eval_scope=all_qids",
                "run_id=demo",
                "report=none",
            )
        # An analysis takes all other settings from the run's own record.
        own = name.endswith((".models", ".analyse"))
        settings = [] if own else [*model, *few, *SMALL]
        assert module(name.removeprefix("entrypoints."), *words, *settings).stdout


def test_the_commands_are_those_of_the_page() -> None:
    assert sum(map(len, COMMANDS)) >= 10 and len([*in_the_text()]) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("words", [*in_the_text()], ids=" ".join)
def test_every_setting_of_the_text_is_one(words: list[str], make_config: MakeConfig) -> None:
    values = [re.sub(r"=([^\[,]+),.*", r"=\1", word) for word in words]  # of a sweep, the first job's
    if any(word.startswith("data=") for word in words):
        values.append("data.path=p")
    config = make_config(*(word for word in with_null_named(values) if not word.startswith("hydra")))
    assert config.resolved()
