"""What is known of Slurm's jobs from what `squeue` prints; with a real Slurm, see `test_real.py`."""

from pathlib import Path

import pytest

from entrypoints.slurm_queue import QueueWatcher
from fv.cluster.base import slurm_jobs
from fv.cluster.base.tasks import WorkerSpec
from fv.errors import ClusterError
from fv.runs.paths import refuse_links


@pytest.fixture(autouse=True)
def _squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `squeue` that knows of an array's elements 0 and 3 and of a job without elements, once it was asked twice."""
    program = tmp_path / "squeue"
    program.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n'
        f"[ $(grep -c . {tmp_path}/asked) -gt 1 ] || {{ echo Unable to contact slurm controller >&2; exit 1; }}\n"
        "printf '17_0\\n17_3\\n18_N/A\\n'\n",
        encoding="utf-8",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_slurm_is_asked_again_until_it_says_who_is_alive() -> None:
    assert slurm_jobs.alive(between=0) == {"17_0", "17_3", "18"}


def test_slurm_that_never_answers_is_told_of_with_what_it_said() -> None:
    with pytest.raises(ClusterError, match="which jobs are at work: Unable to contact slurm controller"):
        slurm_jobs.alive(tries=1, between=0)


def test_submitting_leaves_no_link_in_the_runs_folder(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    for name in ("sbatch", "srun"):
        (tmp_path / name).write_text("#!/bin/sh\necho Submitted batch job 17\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    logs = tmp_path / "run" / "cluster" / "slurm"
    spec = WorkerSpec("json:dumps", None, tmp_path / "run", "code", tmp_path)
    assert slurm_jobs.submit([slurm_jobs.ArrayElement(spec, tmp_path, [])] * 2, logs, {}) == ["17_0", "17_1"]
    assert list(logs.iterdir())
    refuse_links(tmp_path / "run")


def test_a_sweep_takes_the_same_jobs_for_alive() -> None:
    watcher = QueueWatcher()
    names = ("17_0", "17_1", "17_3", "18", "19")
    for name in names:
        watcher.register_job(name)
    watcher.update()
    assert not any(watcher.is_done(name, "cache") for name in names)  # Slurm did not answer: nothing has changed
    watcher.update()
    assert {name for name in names if not watcher.is_done(name, "cache")} == slurm_jobs.alive()
