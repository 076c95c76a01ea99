"""What is going on: one live bar a step, or a sign of life where no end can be told; both on a terminal only."""

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
"""Bars and log lines share it, so that they do not tear each other."""

Advance = Callable[[int], None]
"""Told how much more has been done."""
Rename = Callable[[str], None]
_shown: ContextVar[bool] = ContextVar("_shown", default=True)
log = logging.getLogger(__name__)


def ignore_progress(_steps: int) -> None:
    """The progress callback of a caller who does not show any."""


def show_bars(shown: bool) -> None:
    """Whether bars are shown from now on; they never are where standard error is no terminal."""
    _shown.set(shown)


@contextmanager
def bars(shown: bool) -> Iterator[None]:
    """Whether bars are shown for as long as the block lasts; inside one that shows none, none are."""
    token = _shown.set(_shown.get() and shown)
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def progress_bar(step: str, total: int) -> Iterator[tuple[Advance, Rename]]:
    """Show `step`'s progress with an estimate of the time left; silent where standard error is no terminal.

    Yields:
        a function that advances the bar, and one that names what is being worked on (the relation).
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
    """Log that `what` begins; on a terminal, show for how long it has been going on."""
    log.info("%s …", what)
    with _live(SpinnerColumn(), TimeElapsedColumn(), transient=True) as bar:
        bar.add_task(visible(what), total=None)
        yield


def _live(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """A line that begins with the task's name; a relation may be called [b], which is no sign of rich's here."""
    name = TextColumn("{task.description}", markup=False)
    disable = not (console.is_terminal and _shown.get())
    return Progress(name, *columns, console=console, disable=disable, transient=transient)
