"""Progress on a terminal: one live bar per step, or a spinner if the end is not known."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fv.characters import visible

console = Console(stderr=True)
"""The console that bars and log lines share, so that they do not break each other."""

Advance = Callable[[int], None]
"""A function that is called with the number of steps just done."""
Rename = Callable[[str], None]
_shown: ContextVar[bool] = ContextVar("_shown", default=True)
log = logging.getLogger(__name__)


def ignore_progress(_steps: int) -> None:
    """Do nothing: the progress callback of a caller who shows no progress."""


def show_bars(shown: bool) -> None:
    """Show or hide bars from now on; they never appear if standard error is not a terminal."""
    _shown.set(shown)


@contextmanager
def bars(shown: bool) -> Iterator[None]:
    """Show or hide bars for as long as the block lasts; inside a block that hides them, they stay hidden."""
    token = _shown.set(_shown.get() and shown)
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def progress_bar(step: str, total: int) -> Iterator[tuple[Advance, Rename]]:
    """Show `step`'s progress with an estimate of the time left; silent if standard error is not a terminal.

    Yields:
        a function that advances the bar, and one that names the relation in work.
    """
    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
    with _live(*columns, TimeRemainingColumn()) as bar:
        task = bar.add_task(step, total=total)

        def advance(steps: int) -> None:
            bar.advance(task, steps)

        def rename(what: str) -> None:
            bar.update(task, description=visible(f"{step} {what}"))

        yield advance, rename


@contextmanager
def activity(what: str) -> Iterator[None]:
    """Log that `what` begins; on a terminal, show the time since then."""
    log.info("%s …", what)
    with _live(SpinnerColumn(), TimeElapsedColumn(), transient=True) as bar:
        bar.add_task(visible(what), total=None)
        yield


def _live(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """A live line that begins with the task's name; markup is off, because a relation may be called [b]."""
    name = TextColumn("{task.description}", markup=False)
    disable = not (console.is_terminal and _shown.get())
    return Progress(name, *columns, console=console, disable=disable, transient=transient)
