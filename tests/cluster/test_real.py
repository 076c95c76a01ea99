"""Units computed by real workers: processes, a real Slurm with two nodes, a real Ray with two; and what kills them."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import differing, slurm_here
from commands import ROOT, surroundings

pytestmark = [pytest.mark.cluster, pytest.mark.slow]
MATRIX = ["injection.fv=[all_qids,aie_qid]", "eval_scope=all_qids"]
"""Every vector on every relation."""
OTHER_UNITS = ["compute.unit_trials=1"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which the two nodes of a Slurm of this machine are found."""
    with slurm_here(tmp_path_factory.mktemp("slurm")) as conf:
        yield {"SLURM_CONF": conf}


@pytest.fixture(scope="module")
def ray_nodes() -> Iterator[Any]:
    """A Ray of two nodes of one CPU beside a head that has none, each with a raylet of its own."""
    nodes, _ = two_nodes()
    try:
        yield nodes
    finally:
        nodes.shutdown()


def two_nodes() -> tuple[Any, list[Any]]:
    """A Ray of two nodes of one CPU, and the two."""
    # A second Ray would find the dashboard's port taken, and leak a socket.
    utils = pytest.importorskip("ray.cluster_utils")
    nodes = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    return nodes, [nodes.add_node(num_cpus=1) for _ in range(2)]


@pytest.fixture(scope="module")
def subject(tiny_llama_folder: Path, small_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of two relations, all of it, in seconds."""
    return [
        *("model=local", f"model.path={tiny_llama_folder}", "model.name=tiny", "data.name=small", "report=none"),
        *(f"data.relation_csv_path={small_csv}", "data.qids=[antonym,verb_past]", "compute.threads=1"),
        *(
            "data.n_trials_per_q=6",
            "data.n_demos=3",
            "data.n_eval_trials_per_q=6",
            "score.k=3",
            "injection.layer=[0,1]",
        ),
        *("evaluation.conditions.random_vector.draws=3", "evaluation.conditions.random_heads.draws=2"),
        *("analysis.cost.n_texts=2", "stats.n_resamples=100", *MATRIX),
        f"results_dir={tmp_path_factory.mktemp('runs')}",
    ]


def root_of(subject: Sequence[str], run_id: str) -> Path:
    return Path(subject[-1].partition("=")[2]) / "relation" / run_id


def command(*words: str, entrypoint: str = "pipeline") -> list[str]:
    return [sys.executable, "-m", f"entrypoints.{entrypoint}", *words]


def started(words: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    own = {**os.environ, **surroundings(), **(environment or {})}
    return subprocess.Popen(words, env=own, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*words: str, environment: dict[str, str] | None = None, code: int = 0, entrypoint: str = "pipeline") -> str:
    """What a command prints; it must end with the exit code."""
    with started(command(*words, entrypoint=entrypoint), environment) as process:
        told, _ = process.communicate()
    assert process.returncode == code, told
    return told


@pytest.fixture(scope="module")
def whole(subject: list[str]) -> Path:
    """The run that one process made."""
    run(*subject, "run_id=whole")
    return root_of(subject, "whole")


Words = Callable[[], tuple[list[str], dict[str, str]]]


@pytest.fixture(params=["local", "slurm", "ray"])
def cluster(request: pytest.FixtureRequest) -> Words:
    """The settings of a cluster with two workers, and what of the environment it needs."""
    if request.param == "local":
        return lambda: (["cluster=local"], {})
    if request.param == "slurm":
        environment = request.getfixturevalue("slurm")
        return lambda: (["cluster=slurm", "cluster.poll=1", "cluster.workers=2"], environment)
    nodes = request.getfixturevalue("ray_nodes")
    return lambda: (["cluster=ray", f"cluster.address={nodes.address}"], {})


def workers() -> list[psutil.Process]:
    """The processes that compute: none of this test's own, and none of the clusters' daemons."""
    signs = ("submitit.core._submit", "ray::_Actor", "multiprocessing.spawn")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = " ".join(process.cmdline())
            if any(sign in words for sign in signs) and "resource_tracker" not in words and "srun" not in words:
                found.append(process)
    return found


def kill_some(process: subprocess.Popen[str], n_kills: int, rng: random.Random) -> int:
    """Kill a worker that lives at random moments, as long as the command runs; says how many were killed."""
    killed = 0
    while killed < n_kills and process.poll() is None:
        time.sleep(rng.uniform(1, 5))
        if alive := workers():
            with contextlib.suppress(psutil.Error):
                rng.choice(alive).send_signal(signal.SIGKILL)
                killed += 1
    return killed


# The same bytes


def test_any_cluster_ends_in_the_bytes_of_one_process(subject: list[str], whole: Path, cluster: Words) -> None:
    words, environment = cluster()
    name = words[0].replace("=", "_")
    run(*subject, *words, f"run_id={name}", environment=environment)
    assert differing(whole, root_of(subject, name)) == []


def test_other_units_and_more_workers_change_no_byte(subject: list[str], whole: Path, cluster: Words) -> None:
    words, environment = cluster()
    name = words[0].replace("=", "_other_")
    run(*subject, *words, *OTHER_UNITS, "cluster.workers=3", f"run_id={name}", environment=environment)
    assert differing(whole, root_of(subject, name)) == []


# What dies


def test_workers_killed_at_random_moments_cost_no_byte(subject: list[str], whole: Path, cluster: Words) -> None:
    words, environment = cluster()
    name, rng = words[0].replace("=", "_killed_"), random.Random(7)
    asked = [*subject, *words, *OTHER_UNITS, "cluster.retries=20", f"run_id={name}"]
    process = started(command(*asked), environment)
    killed = kill_some(process, 5, rng)
    told = process.communicate()[0]
    assert killed == 5, told
    assert process.returncode == 0, told
    assert differing(whole, root_of(subject, name)) == []


def test_status_tells_the_truth_while_a_run_is_at_work(subject: list[str], cluster: Words) -> None:
    words, environment = cluster()
    name = words[0].replace("=", "_status_")
    asked = [f"run_id={name}", subject[-1]]
    process = started(command(*subject, *words, *OTHER_UNITS, f"run_id={name}"), environment)
    seen = []
    while process.poll() is None:
        if root_of(subject, name).exists() and (root_of(subject, name) / "cluster" / "stages").exists():
            seen.append(run(*asked, entrypoint="status"))
        time.sleep(1)
    told = process.communicate()[0]
    assert process.returncode == 0, told
    assert any("StepD  not begun" in text for text in seen)
    counts = [
        [int(number) for number in line.split()[3:7]]
        for text in seen
        for line in text.splitlines()
        if line.strip().startswith("StepD, prompts") and " all " in line
    ]
    assert counts
    assert all(sum(each) == sum(counts[0]) for each in counts)
    assert [each[0] for each in counts] == sorted(each[0] for each in counts)
    last = run(*asked, entrypoint="status")
    assert len(re.findall(r"Step[DE6]  finished", last)) == 3


def test_a_node_that_goes_down_is_made_up_for(subject: list[str], whole: Path, slurm: dict[str, str]) -> None:
    words = ["cluster=slurm", "cluster.poll=1", "cluster.workers=2", "run_id=node_down", *OTHER_UNITS]
    own = {**os.environ, **slurm}
    process = started(command(*subject, *words), slurm)
    running = ["squeue", "--noheader", "--nodelist=n2", "--states=RUNNING"]
    while not subprocess.run(running, env=own, capture_output=True, check=True).stdout:
        assert process.poll() is None, "nothing ran on the node that was to go down"
        time.sleep(0.1)
    # What runs there is killed; the node comes back by itself (ReturnToService).
    down = ["scontrol", "update", "NodeName=n2", "State=DOWN", "Reason=test"]
    subprocess.run(down, env=own, check=True)
    told = process.communicate()[0]
    assert process.returncode == 0, told
    assert differing(whole, root_of(subject, "node_down")) == []


def test_a_raylet_that_is_killed_is_made_up_for(subject: list[str], whole: Path) -> None:
    nodes, own = two_nodes()
    try:
        words = ["cluster=ray", f"cluster.address={nodes.address}", "run_id=raylet", *OTHER_UNITS]
        process = started(command(*subject, *words))
        while not (root_of(subject, "raylet") / "cluster" / "stages").exists():
            time.sleep(0.2)
        time.sleep(8)
        nodes.remove_node(own[1], allow_graceful=False)
        told = process.communicate()[0]
    finally:
        nodes.shutdown()
    assert process.returncode == 0, told
    assert differing(whole, root_of(subject, "raylet")) == []


def test_a_driver_that_is_killed_leaves_a_run_that_its_command_ends(
    subject: list[str], whole: Path, cluster: Words
) -> None:
    words, environment = cluster()
    name, rng = words[0].replace("=", "_driver_"), random.Random(3)
    asked = command(*subject, *words, *OTHER_UNITS, f"run_id={name}")
    for _ in range(2):
        process = started(asked, environment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(12, 25))
        process.kill()
        process.communicate()
    if "local" in words[0]:
        time.sleep(3)
        assert workers() == []  # they end with the command
    run(*subject, *words, *OTHER_UNITS, f"run_id={name}", environment=environment)
    assert differing(whole, root_of(subject, name)) == []


# What is told


def test_a_command_that_does_not_wait_goes_on_stage_by_stage(
    subject: list[str], whole: Path, slurm: dict[str, str]
) -> None:
    asked = [*subject, "cluster=slurm", "cluster.wait=false", "cluster.workers=2", "run_id=unwaited"]
    texts: list[str] = []
    while not any(re.search("Step6 in .* complete already", text) for text in texts):
        texts.append(run(*asked, environment=slurm))
        assert len(texts) < 60, texts[-3:]
        while subprocess.run(["squeue", "-h"], env={**os.environ, **slurm}, capture_output=True, check=True).stdout:
            time.sleep(1)
    assert any(re.search(r"were submitted: .*\(scancel \d+", text) for text in texts)
    assert differing(whole, root_of(subject, "unwaited")) == []


def test_jobs_that_are_at_work_are_named(subject: list[str], slurm: dict[str, str]) -> None:
    # Held, so that they do not end meanwhile.
    asked = [*subject, "cluster=slurm", "cluster.wait=false", "run_id=named", "cluster.options={hold: true}"]
    first = run(*asked, environment=slurm)
    again = run(*asked, environment=slurm)
    (job,) = re.findall(r"\(scancel (\d+)\)", first.splitlines()[-1])
    assert f"Jobs are still at work on this run: 1 elements of the jobs {job} (scancel {job})." in again
    subprocess.run(["scancel", job], env={**os.environ, **slurm}, check=True)


def test_a_second_driver_waits_for_the_first(subject: list[str], whole: Path) -> None:
    asked = command(*subject, "cluster=local", "run_id=twice")
    both = [started(asked), started(asked)]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("Another process is at work" in text for text in told) == 1, told
    assert differing(whole, root_of(subject, "twice")) == []


def test_nodes_that_do_not_see_the_run_are_told_of_in_a_line(subject: list[str], slurm: dict[str, str]) -> None:
    # A mount that only the command sees stands for a folder that nodes do not share.
    private = Path(subject[-1].partition("=")[2]) / "private"
    private.mkdir()
    asked = [*subject, "cluster=slurm", "cluster.poll=1", "cluster.retries=1", "run_id=r", f"results_dir={private}"]
    shell = f'mount -t tmpfs none {private} && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", shell, "sh", *command(*asked)]
    if subprocess.run([*words[:2], "true"], check=False).returncode:
        pytest.skip("no mounts of one's own here")
    process = started(words, slurm)
    told = process.communicate()[0]
    assert process.returncode == 1, told
    assert "that do not see" in told
    assert "Traceback" not in told


def test_a_full_disk_is_told_of_in_a_line_and_nothing_is_torn(subject: list[str], whole: Path) -> None:
    disk = Path(subject[-1].partition("=")[2]) / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file systems can be mounted here")
    try:
        asked = [*subject, "cluster=local", "run_id=full", f"results_dir={disk}"]
        told = run(*asked, code=1)
        assert "No space left on device" in told
        assert "Traceback" not in told
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        run(*asked)
        assert differing(whole, disk / "relation" / "full") == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_job_of_a_sweep_is_refused_in_a_line(subject: list[str]) -> None:
    told = run(*subject, "cluster=local", "-m", "seed=1,2", "run_id=swept", code=1)
    assert "is not for the jobs of a sweep" in told
