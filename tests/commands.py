"""Commands in processes of their own, most of them forked from one that has imported the slow libraries already."""

import atexit
import functools
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results_fv"
"""Where users' own runs are: no business of the tests."""
AT_IMPORT = {"HF_HOME", "PYTHONPATH", "OMP_NUM_THREADS"}
"""Variables that are read while the libraries are imported: too late for a forked process."""

# Whatever folder a new process is in, it imports this repository.
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["fv.models.loading", "fv.steps.pipeline", "fv.steps.gather", "fv.steps.models"])


@functools.cache
def hub() -> Path:
    """What commands find at HF_HOME: the fixture `hub_cache` fills it.

    The process that asks for it first removes it in the end; a forked command imports this module and never asks.
    """
    folder = Path(tempfile.mkdtemp(prefix="function-vectors-hub-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, made_by: int) -> None:
    if os.getpid() == made_by:
        shutil.rmtree(folder, ignore_errors=True)


def surroundings() -> dict[str, str]:
    """What all commands have in their environment."""
    return {"HF_HUB_OFFLINE": "1", "HF_HOME": str(hub())}


def forbid_users_results() -> None:
    """From now on, whoever opens, lists or changes anything in the repository's `results_fv/` is told not to."""
    sys.addaudithook(_forbid)


def _forbid(event: str, arguments: tuple[object, ...]) -> None:
    if not event.startswith(("open", "os.")):
        return
    for path in arguments:
        # Not relative ones: tests run elsewhere, and what is deleted entry by entry is named by its name alone.
        if isinstance(path, str | bytes) and os.fsdecode(path).startswith(str(RESULTS)):
            named = Path(os.fsdecode(path))
            if RESULTS in (named, *named.parents):
                raise AssertionError(f"A test is at the user's results: {event} {named}")


def run(*command: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python <command>` in the working directory; its exit code must be `code`, unless that is None.

    A script is named from the repository's root.
    """
    run_it = _run_fresh if environment.keys() & AT_IMPORT or command[0] == "-c" else _run_forked
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] += os.pathsep + os.environ["PYTHONPATH"]
    done = run_it(command, environment)
    assert code is None or done.returncode == code, done.stderr
    return done


def module(name: str, *words: str, code: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m entrypoints.<name> <words>`."""
    return run("-m", f"entrypoints.{name}", *words, code=code, **environment)


def _run_fresh(command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **surroundings(), **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


def _run_forked(command: Sequence[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    with mock.patch.dict(os.environ, surroundings()):
        forkserver.ensure_running()  # the first time, it starts with this environment
    with tempfile.TemporaryDirectory() as folder:
        process = _context.Process(target=_command, args=(list(command), environment, Path.cwd(), folder))
        process.start()
        process.join()
        out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
    assert process.exitcode is not None
    return subprocess.CompletedProcess(command, process.exitcode, out, err)


def _command(command: list[str], environment: dict[str, str], working: Path, folder: str) -> None:
    """In the forked process: what `python <command>` does."""
    for descriptor, name in ((1, "out"), (2, "err")):
        with Path(folder, name).open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    os.chdir(working)
    forbid_users_results()
    os.environ.update(environment)
    if command[0] == "-m":
        sys.argv, sys.path[0] = command[1:], str(ROOT)
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        script = str(ROOT / command[0])
        sys.argv, sys.path[0] = [script, *command[1:]], str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")
