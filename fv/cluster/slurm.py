"""Slurm: an array of jobs for the tasks of a stage, each job with its share."""

import importlib.util
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt

from fv.cluster.base.cluster import Cluster, RunTasks, StillAtWork
from fv.cluster.base.records import Record, ended
from fv.cluster.base.slurm_jobs import ArrayElement, alive, shown, submit
from fv.cluster.base.tasks import Task, TaskSet, WorkerSpec
from fv.dealing import dealt
from fv.errors import ClusterError, ConfigError
from fv.files import JsonObject, read_json, write_json

JOBS = "jobs.json"
"""The file, in the folder of the run's records, that lists the jobs submitted last."""
log = logging.getLogger(__name__)


@dataclass
class Slurm(Cluster):
    """Slurm's arrays, submitted by submitit, one array per stage."""

    workers: Annotated[int, Ge(1)] = 8
    """Elements of an array, each with a model of its own."""
    partition: str | None = None
    """The partition; null means the cluster's own default, as for the others."""
    account: str | None = None
    """The account that is charged."""
    qos: str | None = None
    """The quality of service."""
    time: Annotated[int, Ge(1)] = 240
    """Minutes that an element may take; one that takes longer is submitted again and goes on."""
    mem: str | None = None
    """Memory of an element, such as `64G`."""
    cpus: Annotated[int, Ge(1)] = 1
    """CPUs of an element, which are also its threads."""
    gpus: str | None = None
    """GPUs of an element: a number, or with a type, such as `a100:1`."""
    constraint: str | None = None
    """Features that nodes must have."""
    setup: list[str] = field(default_factory=list)
    """Lines of shell that run first, such as `module load cuda`."""
    at_once: Annotated[int, Ge(1)] | None = None
    """Most elements that run at once."""
    options: Any = None
    """Any other option of sbatch by its long name: `{nodelist: n1, reservation: mine}`."""
    wait: bool = True
    """Wait for the jobs. If false, the command returns once it has submitted the tasks of a stage; the same command,
    given again, goes on from there."""
    poll: Annotated[float, Gt(0)] = 5.0
    """Seconds between checks for jobs that have ended."""

    def validate(self) -> None:
        super().validate()
        if self.options is not None and not isinstance(self.options, dict):
            raise ConfigError(
                f"{self.called('options')}={self.options!r} must be options of sbatch by their long names: "
                "{nodelist: n1}."
            )

    def threads(self) -> int:
        return self.cpus

    @contextmanager
    def running(self, spec: WorkerSpec) -> Iterator[RunTasks]:
        if importlib.util.find_spec("submitit") is None:
            raise ClusterError("cluster=slurm needs submitit: pip install 'function-vectors[slurm]'.")
        if shutil.which("sbatch") is None:
            raise ClusterError("cluster=slurm needs Slurm, and there is no sbatch here. On one machine: cluster=local.")
        arrays = _Arrays(self, spec)
        arrays.wait_for_earlier()
        try:
            yield arrays.run
        except BaseException as error:
            if not isinstance(error, StillAtWork) and (left := sorted({*arrays.submitted} & alive())):
                log.warning("Jobs are still at work on this run: %s", shown(left))
            raise


@dataclass
class _Share:
    """The tasks of one element of an array, and the number of elements that died with them."""

    tasks: Sequence[Task]
    attempt: int


class _Arrays:
    """Submits the tasks of a stage as an array, and submits tasks again whose jobs are gone."""

    def __init__(self, settings: Slurm, spec: WorkerSpec) -> None:
        self.settings, self.spec = settings, spec
        self.jobs = spec.folder / "cluster" / JOBS
        self.submitted: list[str] = []

    def wait_for_earlier(self) -> None:
        """Wait for jobs that an earlier command left at work, or raise `StillAtWork` without `wait`."""
        names = read_json(self.jobs)["jobs"] if self.jobs.exists() else []
        told = False
        while left := sorted({*names} & alive()):
            if not self.settings.wait:
                raise StillAtWork(f"Jobs are still at work on this run: {shown(left)}")
            if not told:
                log.info("Jobs of an earlier command are at work on this run: %s Waiting for them.", shown(left))
            told = True
            time.sleep(self.settings.poll)

    def run(self, task_set: TaskSet) -> Iterator[Record]:
        shares = [_Share(tasks, 0) for tasks in dealt(task_set.tasks, attrgetter("cost"), self.settings.workers)]
        at_work = self._submitted(task_set, shares)
        if not self.settings.wait:
            raise StillAtWork(
                f"{len(task_set.tasks)} tasks ({task_set.step}, {task_set.stage}) were submitted: {shown([*at_work])} "
                "The same command goes on when they are done."
            )
        gone_before: set[str] = set()
        while at_work:
            time.sleep(self.settings.poll)
            gone = {*at_work} - alive()
            again = []
            for name, share in [*at_work.items()]:
                found = ended(task_set.folder, share.tasks)
                yield from found
                known = {record.task for record in found}
                left = _Share([task for task in share.tasks if task.name not in known], share.attempt)
                at_work[name] = left
                if not left.tasks:
                    del at_work[name]
                elif name in gone & gone_before:  # gone twice: its last files may reach this machine late
                    del at_work[name]
                    again.append(_Share(left.tasks, share.attempt + 1))
            gone_before = gone
            if again:
                self._refuse_too_many(again)
                log.info("%d elements died; their tasks are submitted again.", len(again))
                at_work |= self._submitted(task_set, again)

    def _refuse_too_many(self, shares: Sequence[_Share]) -> None:
        for share in shares:
            if share.attempt > self.settings.retries:
                raise ClusterError(
                    f"Elements with {share.tasks[0].name} died {share.attempt} times without an error: killed, out of "
                    f"memory or time, or on nodes that do not see {self.spec.folder}. Their logs are in "
                    f"{self._logs()}; finished units are kept."
                )

    def _submitted(self, task_set: TaskSet, shares: Sequence[_Share]) -> dict[str, _Share]:
        """Submit shares as an array; returns them by the names of their jobs."""
        elements = [ArrayElement(self.spec, task_set.folder, share.tasks) for share in shares]
        jobs = submit(elements, self._logs(), self._parameters(task_set))
        found = dict(zip(jobs, shares, strict=True))
        self.submitted = [*self.submitted, *found]
        write_json(self.jobs, {"jobs": self.submitted})
        log.info("%s, %s: %d tasks in %s", task_set.step, task_set.stage, len(task_set.tasks), shown([*found]))
        return found

    def _logs(self) -> Path:
        return self.spec.folder / "cluster" / "slurm"

    def _parameters(self, task_set: TaskSet) -> JsonObject:
        own = self.settings
        more = {**(own.options or {}), **({"gpus-per-task": own.gpus} if own.gpus else {})}
        given = {
            "job_name": f"fv-{task_set.step}-{task_set.stage}".lower().replace(" ", "-"),
            "time": own.time,
            "cpus_per_task": own.cpus,
            "ntasks_per_node": 1,
            "partition": own.partition,
            "account": own.account,
            "qos": own.qos,
            "mem": own.mem,
            "constraint": own.constraint,
            "setup": own.setup or None,
            "array_parallelism": own.at_once,
            "additional_parameters": more or None,
        }
        return {key: value for key, value in given.items() if value is not None}
