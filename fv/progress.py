"""One progress bar a step, on a terminal only."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True)
"""Bars and log lines share it, so that they do not tear each other."""

Step = Callable[[int], None]
Rename = Callable[[str], None]


@contextmanager
def progress_bar(step: str | None, total: int) -> Iterator[tuple[Step, Rename]]:
    """Show `step`'s progress with an estimate of the time left; silent where standard error is no terminal.

    With `step` None it is silent there too.

    Yields:
        a function that advances the bar, and one that names what is being worked on (the relation).
    """
    columns = (
        TextColumn("{task.description}", markup=False),  # a relation may be called [b]
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=step is None or not console.is_terminal) as bar:
        task = bar.add_task(step or "", total=total)

        def advance(steps: int) -> None:
            bar.advance(task, steps)

        def rename(what: str) -> None:
            bar.update(task, description=f"{step} {what}")

        yield advance, rename
