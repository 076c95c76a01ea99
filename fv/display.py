"""Tables on standard output that fit the terminal: a table that is too wide is split, and no digit is lost."""

import io
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from fv.characters import visible

ELSEWHERE = 120
"""Characters in a line that goes to a file or a pipe, unless COLUMNS is set."""
GAP = 2
"""Spaces between two columns."""


def standard_output() -> Console:
    """The console for results. Markup and emoji are off, because a relation may be called [b] or :b:."""
    known = Console().is_terminal or "COLUMNS" in os.environ
    return Console(width=None if known else ELSEWHERE, markup=False, emoji=False, highlight=False)


@dataclass(frozen=True)
class _Column:
    name: str
    cells: list[str]
    is_text: bool
    most: int | None = None
    """The largest width, if the column is to be folded."""

    def width(self, limit: int) -> int:
        """The width of its widest cell or its name's longest word, at most `limit`: a wider column is folded."""
        return min(
            limit,
            self.most or limit,
            max(cell_len(text) for text in [*self.name.split(), *"\n".join(self.cells).splitlines(), ""]),
        )


def print_table(title: str, names: Sequence[str], rows: Sequence[Sequence[object]], n_text: int = 1) -> None:
    """Print rows under the names of their columns; a wide table is split, and each part begins with the first column.

    Args:
        title: the heading.
        names: the names of the columns.
        rows: one cell per column.
        n_text: the number of columns, from the left, that hold words: they are aligned left, the others right.
    """
    _print_table(standard_output(), title, names, rows, n_text)


def text_table(title: str, names: Sequence[str], rows: Sequence[Sequence[object]], n_text: int = 1) -> str:
    """The text that `print_table` prints, without spaces at the ends of lines."""
    return _text(lambda console: _print_table(console, title, names, rows, n_text))


def leading_columns(names: Sequence[str], rows: Sequence[Sequence[object]], n_text: int) -> str:
    """A table as text with as many of the first columns as fit; the others are named below.

    Words are folded if fewer than two columns of numbers would fit otherwise. Arguments as for `print_table`.
    """
    if not names:
        return ""
    room = standard_output().width - GAP
    columns = _columns(names, rows, n_text)
    first, *others = _parts(columns, room)
    if others and len(first) < n_text + 2:
        folded = [replace(column, most=room // (n_text + 2)) if column.is_text else column for column in columns]
        first, *others = _parts(folded, room)
    left_out = textwrap.fill(f"… and {', '.join(names[len(first) :])}", room)
    return _text(lambda console: console.print(_table(None, first, room))) + (f"\n{left_out}" if others else "")


def _text(write: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=standard_output().width, markup=False, emoji=False, highlight=False)
    with console.capture() as captured:
        write(console)
    return "\n".join(line.rstrip() for line in captured.get().strip("\n").split("\n"))


def _print_table(
    console: Console, title: str, names: Sequence[str], rows: Sequence[Sequence[object]], n_text: int
) -> None:
    columns = _columns(names, rows, n_text)
    for number, part in enumerate(_parts(columns, console.width - GAP)):
        console.print(_table(visible(title) if number == 0 else None, part, console.width - GAP))


def _columns(names: Sequence[str], rows: Sequence[Sequence[object]], n_text: int) -> list[_Column]:
    return [_Column(visible(name), [visible(str(row[i])) for row in rows], i < n_text) for i, name in enumerate(names)]


def _parts(columns: Sequence[_Column], room: int) -> list[list[_Column]]:
    """Columns divided into tables of at most `room` characters, in order; each begins with the first column."""
    key, *others = columns
    parts = [[key]]
    for column in others:
        if len(parts[-1]) > 1 and _width([*parts[-1], column], room) > room:
            parts.append([key])
        parts[-1].append(column)
    return parts


def _width(columns: Sequence[_Column], room: int) -> int:
    key, *others = columns
    first = key.width(room // 2)
    return first + sum(GAP + column.width(room - first - GAP) for column in others)


def _table(title: str | None, columns: Sequence[_Column], room: int) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0), pad_edge=False)
    first = columns[0].width(room // 2)
    for i, column in enumerate(columns):
        width = column.width(room - first - GAP) if i else first
        table.add_column(column.name, justify="left" if column.is_text else "right", width=width, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def print_text(text: str, in_one_piece: bool = False) -> None:
    """Print a sentence, wrapped between words; `in_one_piece` keeps it whole, such as a path to be copied."""
    standard_output().print(visible(text), soft_wrap=in_one_piece)


def print_line(text: str) -> None:
    """Print a line unchanged, tabs included; characters that act on a terminal are written as escapes."""
    print(visible(text))
