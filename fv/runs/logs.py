"""Logs: to the terminal, and to the step's own file in the run (spec section 4)."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.logging import RichHandler

from fv.characters import visible
from fv.progress import console

LOGGER = logging.getLogger("fv")
TERMINAL = "fv-terminal"


class _Formatter(logging.Formatter):
    """Formats lines so that control characters from data are shown and do not act on the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def log_to_terminal(quiet: bool = False, verbose: bool = False, job: int | None = None) -> None:
    """Show the package's log lines on standard error; each line is shown once, even if this is called again.

    Args:
        quiet: show warnings and errors only; log files still get all lines.
        verbose: show debug lines too, unless `quiet`.
        job: the number of this job among several on one terminal; lines begin with it.
    """
    LOGGER.setLevel(logging.DEBUG if verbose else logging.INFO)
    LOGGER.propagate = False  # Hydra's own handler on the root logger would show every line twice
    handler = next((known for known in LOGGER.handlers if known.name == TERMINAL), None) or _terminal_handler(
        job is None
    )
    if job is not None:
        handler.setFormatter(_Formatter(f"#{job} %(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    handler.setLevel(logging.WARNING if quiet else logging.NOTSET)
    LOGGER.addHandler(handler)


def _terminal_handler(may_draw: bool) -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler()
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    if console.is_terminal and may_draw:
        handler = RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(_Formatter("%(message)s"))
    handler.name = TERMINAL
    return handler


def keep_log(path: Path) -> None:
    """Append the package's log lines to `path` until this process ends, and show none on the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False
    LOGGER.addHandler(handler)


@contextmanager
def log_to_file(path: Path) -> Iterator[None]:
    """Append the package's log lines to `path`, including an error that ends the step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    handler.setLevel(logging.INFO)
    LOGGER.setLevel(min(LOGGER.level or logging.INFO, logging.INFO))
    LOGGER.addHandler(handler)
    try:
        yield
    except Exception as error:
        # To the file only: the entrypoint shows the message on the terminal.
        record = LOGGER.makeRecord(LOGGER.name, logging.ERROR, "", 0, "%s: %s", (type(error).__name__, error), None)
        handler.emit(record)
        raise
    finally:
        LOGGER.removeHandler(handler)
        handler.close()
