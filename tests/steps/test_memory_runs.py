"""A run whose memory runs out ends all the same, and says so; one whose passes are sized by memory keeps its size."""

import json
import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from short_memory import short_of_memory
from tiny_runs import TinyRun

from fv.config import Config
from fv.errors import MemoryLackError
from fv.files import read_json
from fv.interventions.memory import bytes_a_row
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.run import open_run
from fv.steps.model_holder import ModelHolder
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe

SETTINGS = {"analysis": [], "injection.layer": [0, 1], "data.qids": ["antonym", "verb_past"], "compute.unit_trials": 1}


def cie(config: Config) -> pd.DataFrame:
    return pd.read_csv(RunPaths.of(config).artifacts / "cie_scores.csv")


def step6_of(config: Config, name: str) -> dict:
    return read_json(RunPaths.of(config).step6 / name)


@pytest.mark.slow
def test_a_run_whose_memory_runs_out_has_the_same_numbers_and_is_marked(
    tiny_run: TinyRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run(SETTINGS)
    whole = tiny_run(SETTINGS, results_dir=tmp_path / "whole")
    run_pipeline(whole)
    models = ModelHolder()
    with short_of_memory(models.of(config), lambda _, rows: rows > 40) as ran_out:
        run_pipeline(config, models)
    assert ran_out
    assert len([1 for record in caplog.records if "Memory ran out: passes have" in record.message]) == len(ran_out)
    pd.testing.assert_frame_equal(cie(config), cie(whole), rtol=0, atol=1e-5)

    meta = read_json(RunPaths.of(config).stepd_meta)
    marked = {made.get("memory_ran_out_at"): made["compute.max_rows"] for made in meta["computed_with"]}
    assert marked[4096] <= 64
    assert any("Memory ran out, and some passes" in line for line in meta["warnings"])
    summary = step6_of(config, "eval_summary.json")
    (told,) = [line for line in summary["warnings"] if "Memory ran out" in line]
    assert "token rows and not 4096" in told
    assert not any("Memory" in line for line in step6_of(whole, "eval_summary.json")["warnings"])
    found, due = (open_run(RunPaths.of(one).root).table("eval_trials") for one in (config, whole))
    pd.testing.assert_frame_equal(found, due, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_what_was_finished_before_memory_ran_out_is_kept_and_the_mark_with_it(tiny_run: TinyRun) -> None:
    config, models = tiny_run(SETTINGS), ModelHolder()
    paths, lm = RunPaths.of(config), models.of(config)
    # It runs out once, goes on in smaller passes, and then for good.
    with (
        short_of_memory(lm, lambda number, _: number == 3 or number > 14),
        pytest.raises(MemoryLackError, match=r"single prompt of tiny .* Finished units are kept\. .*compute\.dtype"),
    ):
        run_stepd(config, models)
    finished = {path: path.stat().st_mtime_ns for path in paths.units.glob("*.npz")}
    assert finished
    run_stepd(config, models)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    machines = [json.loads(str(np.load(path)["about"]))["machine"] for path in finished]
    assert any(machine.get("memory_ran_out_at") == 4096 for machine in machines)
    assert any("Memory ran out" in line for line in read_json(paths.stepd_meta)["warnings"])


@pytest.mark.slow
def test_a_run_keeps_the_rows_that_fitted_when_it_began(
    tiny_run: TinyRun,
    tiny_llama: LanguageModel,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    free = 150 * bytes_a_row(tiny_llama)
    monkeypatch.setattr("fv.interventions.memory.free_bytes", lambda _: free)
    config = tiny_run(SETTINGS, {"compute.max_rows": "auto"}, analysis=["ranking_stability", "cost"])
    run_stepd(config)
    free *= 100
    for step in (run_stepe, run_step6):
        step(config)
    run_stepd(tiny_run(SETTINGS, {"data.qids": None, "compute.max_rows": "auto"}))  # the run grows
    paths = RunPaths.of(config)
    metas = [read_json(path) for path in paths.artifacts.rglob("*_meta.json")]
    metas += [read_json(path) for path in paths.analyses.rglob("meta.json")]
    assert len(metas) >= 3
    assert {meta["config"]["compute"]["max_rows"] for meta in metas} == {64}
    made = [one for meta in metas for one in meta.get("computed_with", [])]
    assert made and {one["compute.max_rows"] for one in made} == {64}
    assert "not to the byte" not in caplog.text
    with caplog.at_level(logging.WARNING):
        run_stepd(tiny_run(SETTINGS, {"data.qids": None, "compute.max_rows": 128}))
    assert "compute.max_rows 64 there, 128 here" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("asked", [True, False])
def test_steps_set_the_switches_of_torch_each_time(tiny_run: TinyRun, asked: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    config = tiny_run({"compute.tf32": asked, "compute.deterministic": asked}, SETTINGS)
    try:
        torch.use_deterministic_algorithms(not asked)
        torch.backends.cuda.matmul.allow_tf32 = not asked
        run_stepd(config)
        assert torch.are_deterministic_algorithms_enabled() is asked
        assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is asked
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = before
    meta = read_json(RunPaths.of(config).stepd_meta)
    assert {one["compute.deterministic"] for one in meta["computed_with"]} == {asked}
    assert meta["compute"]["compute.deterministic"] is meta["config"]["compute"]["tf32"] is asked


@pytest.mark.slow
def test_a_run_in_tf32_is_another_run_than_one_without(tiny_run: TinyRun) -> None:
    run_stepd(tiny_run(SETTINGS))
    with pytest.raises(Exception, match=r"compute\.tf32: there False, here True"):
        run_stepd(tiny_run(SETTINGS, {"compute.tf32": True}))
