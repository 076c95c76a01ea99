"""Locks: one process at a time writes into a run; several jobs may share it, each writing into a folder of its own."""

import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from fv.files import remove_leftovers, safe_name
from fv.runs.paths import refuse_links

_held: ContextVar[dict[Path, bool]] = ContextVar("_held")
"""{run that this process has locked: True if it shares the run}."""
log = logging.getLogger(__name__)


@contextmanager
def run_lock(root: Path, shared: bool = False) -> Iterator[None]:
    """Lock a run while this process writes there; other processes of this machine wait.

    Steps inside a pipeline do not wait, because the pipeline holds the lock already. Other machines that see the
    folder are not kept out, because locks are unreliable on network file systems: they would write the same files,
    each of them whole.

    Args:
        root: the run's folder.
        shared: share the run with other processes that share it. Such a process only reads the files of earlier steps,
            and writes into a folder that it locks for itself (`locked`).

    Raises:
        ArtifactError: something in the folder is a link.
    """
    run, held = root.resolve(), _held.get({})
    if run in held:
        assert shared or not held[run], "A process that shares a run cannot lock it alone."
        yield
        return
    refuse_links(root)
    with locked(root, shared):
        token = _held.set({**held, run: shared})
        try:
            yield
        finally:
            _held.reset(token)


@contextmanager
def has_run(root: Path) -> Iterator[None]:
    """Let a worker write into a run that is locked by the process that started the worker."""
    token = _held.set({**_held.get({}), root.resolve(): False})
    try:
        yield
    finally:
        _held.reset(token)


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Lock one folder against other processes of this machine; with `shared`, processes that share it may enter.

    A folder that was made for the lock is removed again if nothing was written into it.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    path = folder / f".lock-{safe_name(platform.node())}"
    handle = _locked_file(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        remove_leftovers(folder)
        yield
    finally:
        with suppress(OSError):  # another process has written into it
            if made and not shared and [*folder.iterdir()] == [path]:
                path.unlink()
                for each in made:
                    each.rmdir()
        os.close(handle)  # this also releases the lock


def _locked_file(path: Path, kind: int) -> int:
    """Open and lock a lock's file; make it again if its last owner has removed it meanwhile."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:  # the folder was removed
            continue
        _acquire(handle, kind, path.parent)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)


def _acquire(handle: int, kind: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        log.info("Another process is at work in %s; waiting for it.", folder)
    except OSError as error:  # the file system has no locks at all
        log.info("%s cannot be locked (%s); going on without a lock.", folder, error)
        return
    fcntl.flock(handle, kind)
