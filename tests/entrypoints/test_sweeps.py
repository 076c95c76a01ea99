"""Sweeps on launchers: what their jobs write beside one another is what a single job writes, and failures are named."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import slurm_here
from commands import ROOT, module
from hypothesis import given
from hypothesis import strategies as st

from entrypoints.launchers import PLUGINS, jobs_at_once
from entrypoints.sweeps import UNKNOWN

NUMBERS = ("cie_scores.csv", "fv_by_layer.pt", "step6/eval_summary.json", "step6/eval_trials.jsonl")
ALONE: dict[str, Any] = {"OMP_NUM_THREADS": "1"}
"""Starts a command as a process of its own: a forked one would wait for the processes that a launcher leaves idle."""


RAY = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print("at", cluster.address, flush=True)
input()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of two nodes, which commands find in their environment."""
    with slurm_here(tmp_path_factory.mktemp("slurm")) as conf, pytest.MonkeyPatch.context() as patched:
        patched.setenv("SLURM_CONF", conf)
        yield


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """A Ray cluster of two nodes with a core each, beside any other that this machine has."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: it holds sockets
        command, environment = [sys.executable, "-c", RAY], {**os.environ, "RAY_TMPDIR": folder}
        pipe = subprocess.PIPE
        with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
            assert process.stdout is not None
            yield next(line.split()[1] for line in process.stdout if line.startswith("at "))
            process.communicate("\n")


@pytest.fixture(
    params=[
        pytest.param("basic", marks=pytest.mark.slow),
        *(
            pytest.param(name, marks=pytest.mark.cluster)
            for name in ("processes", "submitit_local", "slurm", "ray_tasks")
        ),
    ]
)
def launcher(request: pytest.FixtureRequest) -> list[str]:
    """The words that choose each launcher."""
    words = [f"hydra/launcher={request.param}"]
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    if request.param == "ray_tasks":
        words.append(f"hydra.launcher.ray.init.address={request.getfixturevalue('ray_address')}")
    return words


def artifacts(results: Path, run_id: str) -> Path:
    return results / "relation" / run_id / "artifacts"


def test_a_failed_job_is_named_and_the_rest_becomes_what_a_single_job_writes(
    launcher: list[str], tiny_overrides: list[str], tmp_path: Path
) -> None:
    step6 = artifacts(tmp_path, "r") / "step6"
    failed = module("pipeline", "-m", *tiny_overrides, *launcher, "injection.layer=0,7", code=1, **ALONE)
    assert "1 of 2 jobs failed; nothing was gathered.\n#1 injection.layer=7: " in failed.stderr
    assert "allows 0 to 2" in failed.stderr and "Traceback" not in failed.stderr
    assert len([*step6.glob("cells/*/eval_meta.json")]) == 1 and not (step6 / "eval_summary.json").exists()

    swept = module("pipeline", "-m", *tiny_overrides, *launcher, "injection.layer=0,1", "quiet=true", **ALONE)
    assert (swept.stdout, swept.stderr) == ("", "")
    module("pipeline", *tiny_overrides, "injection.layer=[0,1]", "run_id=single")
    for name in NUMBERS:
        single = artifacts(tmp_path, "single") / name
        assert (artifacts(tmp_path, "r") / name).read_bytes() == single.read_bytes(), name


def killed(words: list[str], workers: Callable[[psutil.Process], Iterable[psutil.Process]]) -> str:
    """What a sweep of the pipeline says, one of whose workers is killed as soon as there is one at work.

    Args:
        words: the settings.
        workers: those at work, of the command's process.
    """
    command = [sys.executable, "-m", "entrypoints.pipeline", "-m", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        while process.poll() is None:
            if worker := next(iter(workers(psutil.Process(process.pid))), None):
                worker.kill()
                break
            time.sleep(0.05)
        said = process.communicate()[1]
    assert process.returncode == 1, said
    return said


@pytest.mark.cluster
def test_a_process_that_was_killed_is_named_and_the_same_sweep_goes_on(
    tiny_overrides: list[str], tmp_path: Path
) -> None:
    words = [*tiny_overrides, "hydra/launcher=processes", "injection.layer=0,1"]

    def at_work(command: psutil.Process) -> list[psutil.Process]:
        # Processes are there before their jobs are; a job has a folder once it has begun.
        begun = any(tmp_path.glob("multirun/*/0"))
        return [child for child in command.children() if begun and "popen_loky_posix" in " ".join(child.cmdline())]

    said = killed(words, at_work)
    assert UNKNOWN in said and "The launcher failed: TerminatedWorkerError" in said and "Traceback" not in said
    assert "among 2 cells" in module("pipeline", "-m", *words, **ALONE).stdout


@pytest.mark.cluster
def test_a_slurm_job_that_was_killed_is_named_and_not_waited_for_for_ever(
    tiny_overrides: list[str], tmp_path: Path, slurm: None
) -> None:
    words = [*tiny_overrides, "hydra/launcher=slurm", "injection.layer=0,1"]

    def at_work(_: psutil.Process) -> list[psutil.Process]:
        lines = {process: process.info["cmdline"] or [""] for process in psutil.process_iter(["cmdline"])}
        return [
            process
            for process, line in lines.items()
            if "submitit.core._submit" in line and line[-1].startswith(str(tmp_path)) and "python" in line[0]
        ]

    said = killed(words, at_work)
    assert UNKNOWN in said and "The launcher failed: UncompletedJobError" in said and "Traceback" not in said
    assert "among 2 cells" in module("pipeline", "-m", *words, **ALONE).stdout


@pytest.mark.cluster
def test_seeds_in_processes_are_averaged_as_those_of_one_process_are(tiny_overrides: list[str], tmp_path: Path) -> None:
    words = [each for each in tiny_overrides if not each.startswith(("run_id", "results_dir", "evaluation.held_out"))]
    words += ["data.qids=[antonym]", "injection.layer=1", "analysis=[]", "stats.n_resamples=100", "seed=1,2"]
    for launcher in ("basic", "processes"):
        module("pipeline", "-m", *words, f"hydra/launcher={launcher}", f"results_dir={tmp_path / launcher}", **ALONE)
    for name in ("held_out.csv", "contrasts.csv", "top_heads.csv"):
        (one,), (several) = ([*(tmp_path / each / "over_seeds").glob(f"*/{name}")] for each in ("basic", "processes"))
        assert one.read_bytes() == several[0].read_bytes(), name


@pytest.mark.slow
def test_jobs_that_convert_the_embedded_model_at_once_end_as_one_does(tmp_path: Path) -> None:
    small = ["data.qids=[antonym]", "data.n_trials_per_q=1", "data.n_demos=2", "score.layers=[14]", "score.k=2"]
    small += ["data.n_eval_trials_per_q=2", "compute.threads=1", "injection.layer=15", "evaluation=grid", "analysis=[]"]
    small += [f"results_dir={tmp_path}", "report=none", "seed=1,2"]
    module("pipeline", "-m", *small, "hydra/launcher=processes", FV_CACHE_DIR=str(tmp_path / "cache"), **ALONE)
    summaries = [*tmp_path.glob("relation/*/artifacts/step6/eval_summary.json")]
    assert len(summaries) == 2
    assert len([*(tmp_path / "cache" / "models").glob("*/manifest.json")]) == 1


@pytest.mark.parametrize("name", PLUGINS)
def test_a_launcher_without_its_plugin_says_what_to_install(name: str, tmp_path: Path) -> None:
    # A package of this name without that plugin stands in front of the one that has them.
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins" / "__init__.py").touch()
    done = module("pipeline", "-m", "seed=1,2", f"hydra/launcher={name}", code=1, PYTHONPATH=str(tmp_path))
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"hydra/launcher={name} needs hydra-") and "'function-vectors[sweeps]'" in line


def test_ready_launchers_are_those_that_help_names_and_have_names_of_their_own() -> None:
    ready = {path.stem for path in (ROOT / "conf" / "hydra" / "launcher").glob("*.yaml")}
    # A file that builds on a plugin's launcher under the launcher's own name would build on itself.
    assert ready == {*PLUGINS} and not ready & {"basic", "joblib", "submitit_local", "submitit_slurm", "ray", "ray_aws"}
    assert f"one of {', '.join(sorted(ready))}" in module("pipeline", "--help", COLUMNS="120").stdout


@given(st.one_of(st.none(), st.integers(1, 64)))
def test_jobs_at_once_are_as_many_as_there_are_cores_for(threads: int | None) -> None:
    jobs = jobs_at_once(threads)
    assert jobs == 1 or jobs * (threads or 1) <= len(psutil.Process().cpu_affinity())
    assert (jobs + 1) * (threads or 1) > len(psutil.Process().cpu_affinity())
