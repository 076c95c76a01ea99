"""Slurm's jobs: arrays to submit, the work of an array's element, and the jobs that are alive.

Jobs are named as submitit names them: an array's number and the element's, `17_3`; a job without elements, `17`.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fv.cluster.base.records import ended
from fv.cluster.base.tasks import Task, WorkerSpec
from fv.cluster.base.worker_process import run_task
from fv.errors import ClusterError

TRIES, BETWEEN_TRIES = 20, 15.0
"""Number of attempts if Slurm does not answer, and seconds in between: its controller may be restarting."""
QUEUE = ("squeue", "--me", "--noheader", "--array", "--format=%F_%K")
"""The command that prints this user's waiting and running jobs, one per line: the array's number and the element's."""


class ArrayElement:
    """The work of one element of an array: its tasks, one after the other.

    By its `checkpoint`, submitit submits an element again whose time is up or that is preempted.
    """

    def __init__(self, spec: WorkerSpec, folder: Path, tasks: Sequence[Task]) -> None:
        self.spec, self.folder, self.tasks = spec, folder, tasks

    def __call__(self) -> int:
        done = {record.task for record in ended(self.folder, self.tasks)} if self.folder.is_dir() else set()
        for task in self.tasks:
            if task.name not in done:
                run_task(self.spec, self.folder, task)
        return len(self.tasks)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(elements: Sequence[ArrayElement], logs: Path, parameters: Mapping[str, Any]) -> list[str]:
    """Submit an array of jobs.

    Args:
        elements: the work of each element.
        logs: the folder for their output.
        parameters: submitit's parameters.

    Returns:
        the names of the jobs, in order.

    Raises:
        ClusterError: Slurm refuses them.
    """
    import submitit

    executor = submitit.SlurmExecutor(folder=logs, python=None)
    executor.update_parameters(**parameters)
    try:
        with _outside_a_job():
            names = [job.job_id for job in executor.submit_array(elements)]
    except submitit.core.utils.FailedJobError as error:
        raise ClusterError(f"Slurm refuses the jobs: {error}") from error
    # submitit leaves a link to the file that Slurm has read; a run's folder holds no links.
    for path in logs.glob(".submission_file_*"):
        if path.is_symlink():
            path.unlink()
    return names


def alive(tries: int = TRIES, between: float = BETWEEN_TRIES) -> set[str]:
    """The names of this user's waiting and running jobs, by Slurm; submitit cannot tell without accounting.

    Args:
        tries: largest number of attempts.
        between: seconds between two attempts.

    Raises:
        ClusterError: Slurm does not answer any of the attempts.
    """
    told = ""
    for _ in range(tries):
        found = subprocess.run(QUEUE, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return queued(found.stdout)
        told = found.stderr.strip()
        time.sleep(between)
    raise ClusterError(f"Slurm does not say which jobs are at work: {told}. The same command goes on once it does.")


def queued(printed: str) -> set[str]:
    """The names of the jobs that `QUEUE` printed; it prints N/A as the element of a job without elements."""
    return {name.removesuffix("_N/A") for name in printed.split()}


def shown(names: Sequence[str]) -> str:
    """Jobs as a line of text, with the command that ends them."""
    jobs = [*dict.fromkeys(name.partition("_")[0] for name in names)]
    return f"{len(names)} elements of the jobs {', '.join(jobs)} (scancel {' '.join(jobs)})."


@contextmanager
def _outside_a_job() -> Iterator[None]:
    """Hide the environment of the job that this process runs in from the jobs that it submits, except SLURM_CONF."""
    from submitit.helpers import clean_env

    conf = os.environ.get("SLURM_CONF")
    with clean_env():
        if conf is not None:
            os.environ["SLURM_CONF"] = conf
        yield
