"""Slurm's jobs: submitting an array of them, what an element of it does, and which are alive.

Jobs are named as submitit names them: an array's number and the element's, `17_3`; a job without elements, `17`.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fv.cluster.work.records import ended
from fv.cluster.work.stage import Task, Work
from fv.cluster.work.working import do
from fv.errors import ClusterError

TRIES, BETWEEN_TRIES = 20, 15.0
"""How often Slurm is asked again when it does not answer, and seconds in between: its controller may be restarted."""
QUEUE = ("squeue", "--me", "--noheader", "--array", "--format=%F_%K")
"""The command that prints this user's jobs that wait or run, one a line: the array's number and the element's."""


class Doing:
    """What one element of an array runs: its tasks, one after the other.

    With a `checkpoint`, submitit submits an element whose time is up, or that makes room, again.
    """

    def __init__(self, work: Work, folder: Path, tasks: Sequence[Task]) -> None:
        self.work, self.folder, self.tasks = work, folder, tasks

    def __call__(self) -> int:
        done = {record.task for record in ended(self.folder, self.tasks)} if self.folder.is_dir() else set()
        for task in self.tasks:
            if task.name not in done:
                do(self.work, self.folder, task)
        return len(self.tasks)

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(doing: Sequence[Doing], logs: Path, parameters: Mapping[str, Any]) -> list[str]:
    """Submit an array of jobs.

    Args:
        doing: what each element runs.
        logs: the folder for what they print.
        parameters: submitit's.

    Returns:
        the jobs' names, in order.

    Raises:
        ClusterError: Slurm does not take them.
    """
    import submitit

    executor = submitit.SlurmExecutor(folder=logs, python=None)
    executor.update_parameters(**parameters)
    try:
        with _outside_a_job():
            names = [job.job_id for job in executor.submit_array(doing)]
    except submitit.core.utils.FailedJobError as error:
        raise ClusterError(f"Slurm does not take the jobs: {error}") from error
    # What Slurm has read is left as a link, and nothing in a run's folder is one.
    for path in logs.glob(".submission_file_*"):
        if path.is_symlink():
            path.unlink()
    return names


def alive(tries: int = TRIES, between: float = BETWEEN_TRIES) -> set[str]:
    """The jobs of this user that wait or run. Asks Slurm, not submitit, which without accounting cannot tell.

    Args:
        tries: how often Slurm is asked until it answers.
        between: seconds from one to the next.

    Raises:
        ClusterError: Slurm does not answer, for a while.
    """
    told = ""
    for _ in range(tries):
        found = subprocess.run(QUEUE, capture_output=True, text=True, check=False)
        if found.returncode == 0:
            return queued(found.stdout)
        told = found.stderr.strip()
        time.sleep(between)
    raise ClusterError(f"Slurm does not say who is at work: {told}. The same command goes on once it does.")


def queued(printed: str) -> set[str]:
    """The jobs in what `QUEUE` printed. Of a job without elements, the element is N/A there."""
    return {name.removesuffix("_N/A") for name in printed.split()}


def shown(names: Sequence[str]) -> str:
    """Jobs in a line, with the command that ends them."""
    jobs = [*dict.fromkeys(name.partition("_")[0] for name in names)]
    return f"{len(names)} elements of the jobs {', '.join(jobs)} (scancel {' '.join(jobs)})."


@contextmanager
def _outside_a_job() -> Iterator[None]:
    """Let jobs that are submitted inside one inherit nothing of it but which Slurm is meant."""
    from submitit.helpers import clean_env

    conf = os.environ.get("SLURM_CONF")
    with clean_env():
        if conf is not None:
            os.environ["SLURM_CONF"] = conf
        yield
