"""Tasks for the workers of a cluster, and all that is needed to make a worker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One thing for a worker to do; its results go into the run's folder, and doing it twice gives the same.

    Attributes:
        name: its name, unique in its stage.
        ask: the request to the worker, as JSON.
        relation: its relation; empty if it belongs to none.
        cost: how long it takes relative to the other tasks of its stage, in any unit.
    """

    name: str
    ask: Mapping[str, Any]
    relation: str = ""
    cost: float = 1.0


@dataclass(frozen=True)
class TaskSet:
    """Tasks of one stage, which can all be done at the same time.

    Attributes:
        step: their step.
        stage: the name of the stage.
        tasks: the tasks.
        folder: the folder of their records.
    """

    step: str
    stage: str
    tasks: Sequence[Task]
    folder: Path


@dataclass(frozen=True)
class WorkerSpec:
    """All that a process needs to make its worker.

    Attributes:
        worker: import path of the worker's class, `<module>:<class>`. Each process makes one worker, from the settings,
            and calls it with the request of each task.
        settings: the settings; anything that can be pickled.
        folder: the run's folder, which all workers see.
        code: digest of the code that the run is made with.
        cwd: the folder that relative paths in the settings start from.
        environment: environment variables for the workers.
    """

    worker: str
    settings: Any
    folder: Path
    code: str
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
