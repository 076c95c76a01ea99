"""The records of a stage: what is to be done, and of each task that was begun how it went.

They are files in the run's folder, so that anyone who sees it can tell how far a run is. A file is written whole, and
its name says the state.
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
    """How a task went.

    Attributes:
        task: its name.
        state: `running`, `done` or `failed`.
        host: where.
        pid: of the process.
        started: when, in seconds since 1970.
        seconds: how long it took; none yet where it is running.
        error: of a failed one, what it said, and then the end of the traceback.
        result: what the worker said of what it made, as JSON.
        of: digest of what was asked.
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
    """A stage as its folder tells it.

    Attributes:
        step: the step that it is of.
        name: what it is called.
        begun: when its tasks were last given out, in seconds since 1970.
        cluster: to whom.
        tasks: all of its tasks, without what they ask.
        records: {name of a task: how it went}, of those that were begun.
    """

    step: str
    name: str
    begun: float
    cluster: str
    tasks: Sequence[Task]
    records: dict[str, Record] = field(default_factory=dict)

    def state_of(self, task: Task) -> str:
        """`running`, `done` or `failed`; empty where it was not begun."""
        record = self.records.get(task.name)
        return record.state if record else ""


def write_record(folder: Path, record: Record) -> None:
    """Write a task's record in place of the one before."""
    for state in {RUNNING, DONE, FAILED} - {record.state}:
        _path(folder, record.task, state).unlink(missing_ok=True)
    write_json(_path(folder, record.task, record.state), asdict(record))


def read_record(folder: Path, task: str) -> Record | None:
    """A task's record; None where it was never begun."""
    for state in (DONE, FAILED, RUNNING):
        if (path := _path(folder, task, state)).exists():
            return _read(path)
    return None


def begin_stage(task_set: TaskSet, cluster: str, begun: float) -> None:
    """List a stage's tasks, beside those of the same stage that were done before; what failed before is forgotten."""
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
        ArtifactError: there is no stage in the folder.
    """
    about = read_json(folder / STAGE)
    tasks = [Task(**task) for task in about.pop("tasks")]
    found = [_read(path) for state in (RUNNING, FAILED, DONE) for path in folder.glob(f"*.{state}.json")]
    return StageRecord(**about, tasks=tasks, records={record.task: record for record in found if record})


def ended(folder: Path, tasks: Iterable[Task]) -> list[Record]:
    """The records of those tasks that are done or failed."""
    there = {path.name for path in folder.iterdir()}
    names = ((task.name, state) for task in tasks for state in (DONE, FAILED))
    found = (_read(_path(folder, *name)) for name in names if _path(folder, *name).name in there)
    return [record for record in found if record]


def here() -> str:
    """What this machine is called; of Slurm's nodes, their name there."""
    return os.environ.get("SLURMD_NODENAME") or platform.node()


def _path(folder: Path, task: str, state: str) -> Path:
    return folder / f"{safe_name(task)}.{state}.json"


def _read(path: Path) -> Record | None:
    """A record; None where it was replaced by another meanwhile."""
    try:
        values = read_json(path)
    except ArtifactError:
        return None
    return Record(**{**values, "error": tuple(values["error"])})
