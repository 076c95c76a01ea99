"""What is given to a cluster: stages of tasks, none of which waits for another of its stage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Task:
    """One thing to do. Whoever does it writes what it makes into the run's folder; done twice, it is the same.

    Attributes:
        name: what it is called, once a stage.
        ask: what the worker is asked, as JSON.
        relation: whose it is; empty where it is no relation's.
        cost: how long it takes beside the others of its stage, in any unit.
    """

    name: str
    ask: Mapping[str, Any]
    relation: str = ""
    cost: float = 1.0


@dataclass(frozen=True)
class TaskSet:
    """Tasks that can all be done at once.

    Attributes:
        step: the step that they are of.
        stage: the name of the stage.
        tasks: what is to be done.
        folder: where each has a record.
    """

    step: str
    stage: str
    tasks: Sequence[Task]
    folder: Path


@dataclass(frozen=True)
class WorkerSpec:
    """What every worker of a run is told.

    Attributes:
        worker: import path, `<module>:<class>`, of what is made once in each worker's process, of the settings, and is
            then called with what tasks ask.
        settings: what it is made of; anything that can be pickled.
        folder: the run's, which all workers see.
        code: digest of the code that the run is made with.
        cwd: what relative paths in the settings are relative to.
        environment: variables that workers are to have.
    """

    worker: str
    settings: Any
    folder: Path
    code: str
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
