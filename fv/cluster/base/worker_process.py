"""The worker of a process: made once, then run on one task after the other, each of which is recorded."""

import os
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fv.cluster.base.records import DONE, FAILED, RUNNING, Record, here, write_record
from fv.cluster.base.tasks import Task, WorkerSpec
from fv.collector import loaded
from fv.errors import ClusterError, FvError
from fv.files import digest_of, sha256_of

LAST_LINES = 12
"""Lines of a traceback that are recorded, counted from its end."""
_made: dict[str, Callable[[Any], Any]] = {}
"""The worker of this process, by the spec that it was made from."""


def run_task(spec: WorkerSpec, folder: Path, task: Task) -> Record:
    """Do a task in this process, and record in the stage's folder that it was begun and how it ended.

    Raises:
        ClusterError: this machine does not see the folder, so nothing can be recorded.
    """
    if not folder.is_dir():
        raise ClusterError(f"{here()} does not see {folder}: the run must be in a folder that all machines share.")
    of, started = digest_of(dict(task.ask)), time.time()
    begun = Record(task.name, RUNNING, here(), os.getpid(), started, of=of)
    write_record(folder, begun)
    state, result = DONE, None
    error: tuple[str, ...] = ()
    try:
        result = _worker(spec)(task.ask)
    except Exception as failure:
        state, error = FAILED, _told(failure)
    record = Record(task.name, state, here(), os.getpid(), started, time.time() - started, error, result, of)
    write_record(folder, record)
    return record


def code_digest() -> str:
    """The digest of the project's files, which identifies a version of its code."""
    root = Path(__file__).parents[2]
    return _digest_of_code(root)


@cache
def _digest_of_code(root: Path) -> str:
    return digest_of({str(path.relative_to(root)): sha256_of(path) for path in sorted(root.rglob("*.py"))})


def _worker(spec: WorkerSpec) -> Callable[[Any], Any]:
    """The worker of this process: made at its first task, and again for another spec."""
    if spec.code != code_digest():
        raise ClusterError(
            f"{here()} has another version of the project than the run was started with. Install the same one on all "
            "machines."
        )
    os.environ.update(spec.environment)
    if spec.cwd.is_dir():
        os.chdir(spec.cwd)
    key = f"{spec.worker} {spec.folder} {spec.settings!r}"
    if key not in _made:
        _made.clear()
        module, _, name = spec.worker.partition(":")
        _made[key] = getattr(loaded(module), name)(spec.settings)
    return _made[key]


def _told(failure: Exception) -> tuple[str, ...]:
    """An error as one line, then the end of its traceback."""
    line = str(failure) if isinstance(failure, FvError) else f"{type(failure).__name__}: {failure}"
    lines = "".join(traceback.format_exception(failure)).splitlines()
    return (line, *lines[-LAST_LINES:])
