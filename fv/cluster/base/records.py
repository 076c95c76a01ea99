"""The records of a stage: its tasks, and the outcome of each task that was begun.

They are files in the run's folder, so that anyone who sees it can tell how far a run is. A file is written whole, and
its name says the state of its task.
"""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fv.cluster.base.tasks import Task, TaskSet
from fv.errors import ArtifactError
from fv.files import read_json, safe_name, write_json

STAGE = "stage.json"
RUNNING, DONE, FAILED = "running", "done", "failed"


@dataclass(frozen=True)
class Record:
    """The state and outcome of a task.

    Attributes:
        task: the task's name.
        state: `running`, `done` or `failed`.
        host: the machine.
        pid: the id of the process.
        started: the time at which it began, in seconds since 1970.
        seconds: how long it took; None while it is running.
        error: the message of a failed task, then the end of its traceback.
        result: what the worker returned, as JSON.
        of: digest of the request.
    """

    task: str
    state: str
    host: str
    pid: int
    started: float
    seconds: float | None = None
    error: tuple[str, ...] = ()
    result: Any = None
    of: str = ""


@dataclass(frozen=True)
class StageRecord:
    """A stage as recorded in its folder.

    Attributes:
        step: its step.
        name: its name.
        begun: the time at which its tasks were last given out, in seconds since 1970.
        cluster: the cluster that they were given to.
        tasks: all of its tasks, without their requests.
        records: {name of a task: its record}, for the tasks that were begun.
    """

    step: str
    name: str
    begun: float
    cluster: str
    tasks: Sequence[Task]
    records: dict[str, Record] = field(default_factory=dict)

    def state_of(self, task: Task) -> str:
        """The state of a task: `running`, `done` or `failed`; empty if it was not begun."""
        record = self.records.get(task.name)
        return record.state if record else ""


def write_record(folder: Path, record: Record) -> None:
    """Write a task's record in place of the previous one."""
    for state in {RUNNING, DONE, FAILED} - {record.state}:
        _path(folder, record.task, state).unlink(missing_ok=True)
    write_json(_path(folder, record.task, record.state), asdict(record))


def read_record(folder: Path, task: str) -> Record | None:
    """A task's record; None if the task was never begun."""
    for state in (DONE, FAILED, RUNNING):
        if (path := _path(folder, task, state)).exists():
            return _read(path)
    return None


def begin_stage(task_set: TaskSet, cluster: str, begun: float) -> None:
    """List a stage's tasks, together with its tasks that were done before; earlier failures are forgotten."""
    there = read_stage(task_set.folder) if (task_set.folder / STAGE).exists() else None
    asked = {task.name for task in task_set.tasks}
    before = [task for task in (there.tasks if there else ()) if task.name not in asked]
    done = [task for task in before if there and there.state_of(task) == DONE]
    for task in task_set.tasks:
        for state in (RUNNING, DONE, FAILED):
            _path(task_set.folder, task.name, state).unlink(missing_ok=True)
    listed = [{**asdict(task), "ask": {}} for task in (*done, *task_set.tasks)]
    about = {"step": task_set.step, "name": task_set.stage, "begun": begun, "cluster": cluster, "tasks": listed}
    write_json(task_set.folder / STAGE, about)


def read_stage(folder: Path) -> StageRecord:
    """A stage's tasks and their records.

    Raises:
        ArtifactError: the folder holds no stage.
    """
    about = read_json(folder / STAGE)
    tasks = [Task(**task) for task in about.pop("tasks")]
    found = [_read(path) for state in (RUNNING, FAILED, DONE) for path in folder.glob(f"*.{state}.json")]
    return StageRecord(**about, tasks=tasks, records={record.task: record for record in found if record})


def ended(folder: Path, tasks: Iterable[Task]) -> list[Record]:
    """The records of the tasks that are done or failed."""
    there = {path.name for path in folder.iterdir()}
    names = ((task.name, state) for task in tasks for state in (DONE, FAILED))
    found = (_read(_path(folder, *name)) for name in names if _path(folder, *name).name in there)
    return [record for record in found if record]


def here() -> str:
    """The name of this machine; on a Slurm node, its name in Slurm."""
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def _path(folder: Path, task: str, state: str) -> Path:
    return folder / f"{safe_name(task)}.{state}.json"


def _read(path: Path) -> Record | None:
    """A record; None if another one has replaced it meanwhile."""
    try:
        values = read_json(path)
    except ArtifactError:
        return None
    return Record(**{**values, "error": tuple(values["error"])})
