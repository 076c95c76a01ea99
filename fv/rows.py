"""Rows: pairs of relations with the place each comes from, as every importer yields them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple


class Row(NamedTuple):
    """One pair of a relation, and where it stands; `file` is empty when a single file was read."""

    q_id: str
    exA: str  # noqa: N815 - the contract's own names
    exB: str  # noqa: N815
    file: str
    line: int


class BadRow(NamedTuple):
    """A row that cannot be used, and why."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{place(self.file, self.line)}: {self.what}"


@dataclass(frozen=True)
class Table:
    """What a file or a folder holds.

    Attributes:
        path: the file or folder.
        sha256: of the file's bytes; of a folder, of the names and hashes of the files read.
        rows: the usable rows, in file order.
        bad: the rows that are not.
    """

    path: Path
    sha256: str
    rows: list[Row]
    bad: list[BadRow]


def place(file: str, line: int) -> str:
    """Where a row stands, for a message."""
    return f"{file}, line {line}" if file else f"line {line}"


def make_row(file: str, line: int, names: list[str], values: tuple[Any, Any, Any]) -> Row | BadRow:
    """A row, or what is wrong with it."""
    q_id, ex_a, ex_b = values
    if not (isinstance(q_id, str) and isinstance(ex_a, str) and isinstance(ex_b, str)):
        kind = [name for name, value in zip(names, values, strict=True) if not isinstance(value, str)]
        return BadRow(file, line, f"column {', '.join(kind)} does not hold text")
    if q_id.strip() and ex_a.strip() and ex_b.strip() and not ("\0" in q_id or "\0" in ex_a or "\0" in ex_b):
        # Half a surrogate pair, which JSON can spell, is no character: it could never be written out again.
        if not (q_id.isascii() and ex_a.isascii() and ex_b.isascii()) and not all(map(_encodes, values)):
            halves = [name for name, value in zip(names, values, strict=True) if not _encodes(value)]
            return BadRow(file, line, f"column {', '.join(halves)} holds half a surrogate pair")
        # One string object a relation: a million rows name a few thousand.
        return Row(sys.intern(q_id), ex_a, ex_b, file, line)
    empty = [name for name, value in zip(names, values, strict=True) if not value.strip()]
    if empty:
        return BadRow(file, line, f"column {', '.join(empty)} is empty")
    control = [name for name, value in zip(names, values, strict=True) if "\0" in value]
    return BadRow(file, line, f"column {', '.join(control)} holds a NUL character")


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
