"""What a run keeps only to grow from can be thrown away, and its results stay."""

from pathlib import Path

import pytest
from commands import module
from tiny_runs import TinyRun

from fv.files import sha256_of
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline


def digests(folder: Path) -> dict[Path, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: sha256_of(path) for path in files if "units" not in path.parts and not path.name.startswith(".lock")}


@pytest.mark.slow
def test_clean_throws_units_away_and_nothing_else(tiny_run: TinyRun) -> None:
    config = tiny_run()
    run_pipeline(config)
    paths = RunPaths.of(config)
    before, n_units = digests(paths.root), len(list(paths.units.iterdir()))
    assert n_units
    said = module("clean", *tiny_run.words()).stderr
    assert f"{n_units} units" in said and "its results stay" in said
    assert not paths.units.exists()
    assert digests(paths.root) == before
    assert "complete already" in module("pipeline", *tiny_run.words()).stderr
    assert "0 units" in module("clean", *tiny_run.words()).stderr


def test_a_run_that_is_not_there_is_said(tmp_path: Path) -> None:
    said = module("clean", "run_id=typo", f"results_dir={tmp_path}", code=1).stderr
    assert "There is no run in" in said and "typo" in said
    assert not (tmp_path / "relation").exists()


@pytest.mark.slow
@pytest.mark.parametrize("step", ["stepd", "step6"])
def test_steps_say_what_their_units_take_and_how_to_be_rid_of_them(tiny_run: TinyRun, step: str) -> None:
    if step == "step6":
        module("stepd", *tiny_run.words())
        module("stepe", *tiny_run.words())
    said = module(step, *tiny_run.words()).stderr
    assert "MB) are kept in" in said and "entrypoints.clean run_id=r" in said
