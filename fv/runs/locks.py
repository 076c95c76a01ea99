"""Who may write into a run: one process at a time, and several jobs that share it in folders of their own."""

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
"""{run that this process has: whether others may be at work in it, too}."""
log = logging.getLogger(__name__)


@contextmanager
def run_lock(root: Path, shared: bool = False) -> Iterator[None]:
    """Keep the other processes of this machine out of a run while this one writes there; a second one waits.

    Steps inside a pipeline, which has the run already, do not wait for it. Another machine that sees the folder is not
    kept out, for locks are unreliable on network file systems: it writes the same files, each of them whole.

    Args:
        root: the run's folder.
        shared: let in who shares it, too: whatever only reads what earlier steps wrote, and writes into a folder that
            it locks for itself (`locked`).

    Raises:
        ArtifactError: something in the folder is a link.
    """
    run, held = root.resolve(), _held.get({})
    if run in held:
        assert shared or not held[run], "Who shares a run cannot have it alone."
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
    """Let a worker go on in a run that the process which started it has."""
    token = _held.set({**_held.get({}), root.resolve(): False})
    try:
        yield
    finally:
        _held.reset(token)


@contextmanager
def locked(folder: Path, shared: bool = False) -> Iterator[None]:
    """Keep the other processes of this machine out of one folder, but for those that share it, too.

    A folder that was made for this, and into which nothing was written, is removed again.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    path = folder / f".lock-{safe_name(platform.node())}"
    handle = _locked_file(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        remove_leftovers(folder)
        yield
    finally:
        with suppress(OSError):  # somebody else has put something there
            if made and not shared and [*folder.iterdir()] == [path]:
                path.unlink()
                for each in made:
                    each.rmdir()
        os.close(handle)  # which gives the lock back


def _locked_file(path: Path, kind: int) -> int:
    """A lock's file, locked; one that its last owner has removed meanwhile is made again."""
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
        log.info("%s cannot be locked (%s); going on without.", folder, error)
        return
    fcntl.flock(handle, kind)
