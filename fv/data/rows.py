"""Rows: pairs of relations with the file and line of each; every importer yields them."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, Strict, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from fv.config import ColumnsConfig

LONGEST_CELL = 2_000_000
"""Most characters of a cell: more than any model's context holds."""
MOST_ROWS = 5_000_000
"""Most rows of a file or a folder: each takes about half a kilobyte of memory."""


class Row(NamedTuple):
    """One pair of a relation, with its file and line; `file` is empty if a single file was read."""

    q_id: str
    exA: str  # noqa: N815 - the contract's own names
    exB: str  # noqa: N815
    file: str
    line: int


class BadRow(NamedTuple):
    """A row that cannot be used, with the reason."""

    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{place(self.file, self.line)}: {self.what}"


@dataclass(frozen=True)
class Table:
    """The rows of a file or a folder.

    Attributes:
        path: the file or folder.
        sha256: digest of the file's bytes; for a folder, of the names and hashes of the files read.
        rows: the usable rows, in file order.
        bad: the other rows.
    """

    path: Path
    sha256: str
    rows: list[Row]
    bad: list[BadRow]


def others(columns: ColumnsConfig) -> str:
    """The sentence of a message that says how to name other columns."""
    names = (f"{columns.called(name)}=<name>" for name in ("q_id", "exA", "exB"))
    return f"Other columns are named by {', '.join(names)}."


def place(file: str, line: int) -> str:
    """The place of a row, for a message."""
    return f"{file}, line {line}" if file else f"line {line}"


def make_row(file: str, line: int, names: list[str], values: tuple[Any, Any, Any]) -> Row | BadRow:
    """The row of three values, or a bad row that says all that is wrong with it."""
    try:
        q_id, ex_a, ex_b = _validate(values)
    except ValidationError as error:
        return BadRow(file, line, _wrong(error, names))
    # One string object per relation: a million rows name only a few thousand.
    return Row(sys.intern(q_id), ex_a, ex_b, file, line)


def _whole_text(cell: str) -> str:
    if not cell.strip():
        raise PydanticCustomError("cell", "is empty")
    if len(cell) > LONGEST_CELL:
        counts = {"n": f"{len(cell):,}", "most": f"{LONGEST_CELL:,}"}
        raise PydanticCustomError("cell", "holds {n} characters, more than {most}", counts)
    if "\0" in cell:
        raise PydanticCustomError("cell", "holds a NUL character")
    if not cell.isascii():
        try:
            cell.encode()
        except UnicodeEncodeError:
            # JSON can spell it, but it is no character and could never be written to a file.
            raise PydanticCustomError("cell", "holds half a surrogate pair") from None
    return cell


_Cell = Annotated[str, Strict(), AfterValidator(_whole_text)]
_validate = TypeAdapter(tuple[_Cell, _Cell, _Cell]).validator.validate_python


def _wrong(error: ValidationError, names: list[str]) -> str:
    """A text on the flaws of a row's cells, each with its columns."""
    columns: dict[str, list[str]] = {}
    for found in error.errors(include_url=False, include_input=False):
        flaw = found["msg"] if found["type"] == "cell" else "does not hold text"
        columns.setdefault(flaw, []).append(names[int(found["loc"][0])])
    return "; ".join(f"column {', '.join(several)} {flaw}" for flaw, several in columns.items())
