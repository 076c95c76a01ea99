"""A run that is killed goes on where it stopped, and ends with the same bytes."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import ROOT, module
from tiny_runs import TinyRun

from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.runs.paths import RunPaths
from fv.steps.stepd import run_stepd


@pytest.mark.slow
def test_a_killed_stepd_recomputes_only_what_is_missing_and_ends_with_the_same_bytes(
    tiny_run: TinyRun, tmp_path: Path
) -> None:
    # Many trials, so that there is time to kill it between two relations; one pass a trial.
    # A forward a head: there is time to interrupt it after its first unit, however busy the machine is.
    slow = tiny_run.but({"data.n_trials_per_q": 12, "compute.sweep": "naive"})
    command = [sys.executable, "-m", "entrypoints.stepd", *slow.words()]
    config = slow()
    paths = RunPaths.of(config)
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not list(paths.units.glob("effects-*.npz")):
            assert process.poll() is None and time.monotonic() < deadline, "StepD ended before it could be killed"
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    finally:
        process.communicate()
    finished = {path: path.stat().st_mtime_ns for path in paths.units.glob("effects-*.npz")}
    assert 1 <= len(finished) < 3
    assert not (paths.artifacts / "cie_scores.csv").exists()

    module("stepd", *slow.words())
    assert {path: path.stat().st_mtime_ns for path in finished} == finished

    whole = slow(results_dir=tmp_path / "whole")
    run_stepd(whole)
    for name in ("cie_scores.csv", "aie_scores.csv", "sampled_trials.json", "trial_metrics.jsonl"):
        assert (paths.artifacts / name).read_bytes() == (RunPaths.of(whole).artifacts / name).read_bytes(), name
    assert [path.name for path in paths.artifacts.rglob(".*") if not path.name.startswith(".lock")] == []


def test_an_interrupted_stepd_leaves_no_half_written_file(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_run()
    patch_heads, calls = SharedPrefixEngine.patch_heads, []

    def interrupted(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return patch_heads(*args)

    monkeypatch.setattr(SharedPrefixEngine, "patch_heads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_stepd(config)
    run_stepd(config)
    assert len(calls) == 4  # one finished, one interrupted, and the two that were missing
    hidden = [path.name for path in RunPaths.of(config).root.rglob(".*") if not path.name.startswith(".lock")]
    assert hidden == []


def _hear_ctrl_c() -> None:
    # Commands in a shell's background do not hear it, nor does what they start.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_ends_with_one_line_and_the_same_command_goes_on(tiny_run: TinyRun) -> None:
    # A forward a head: there is time to interrupt it after its first unit, however busy the machine is.
    slow = tiny_run.but({"data.n_trials_per_q": 12, "compute.sweep": "naive"})
    command = [sys.executable, "-m", "entrypoints.stepd", *slow.words()]
    units = RunPaths.of(slow()).units
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=_hear_ctrl_c)
    deadline = time.monotonic() + 120
    while not list(units.glob("effects-*.npz")):
        assert process.poll() is None and time.monotonic() < deadline, "StepD ended before it could be interrupted"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130
    assert "Interrupted. Finished work is kept" in errors and "Traceback" not in errors
    assert "found finished" in module("stepd", *slow.words()).stderr
