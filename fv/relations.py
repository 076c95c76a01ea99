"""Relations: the (exA, exB) pairs of each `q_id`, read from a CSV (spec sections 1, 3.1 and 7)."""

import csv
import hashlib
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fv.config import ColumnsConfig, DataConfig
from fv.errors import RelationError, shorten

MAX_PROBLEMS = 10
csv.field_size_limit(2**31 - 1)  # a cell may be a whole passage


class Pair(NamedTuple):
    """One row of a relation: an input and its right output."""

    exA: str  # noqa: N815 - the contract's own names
    exB: str  # noqa: N815


@dataclass(frozen=True)
class Relation:
    """One task type and its distinct pairs, in file order.

    Attributes:
        q_id: its name.
        pairs: distinct pairs.
        n_duplicates: rows that repeated an earlier pair.
        n_one_to_many: inputs that have several outputs.
    """

    q_id: str
    pairs: tuple[Pair, ...]
    n_duplicates: int
    n_one_to_many: int


@dataclass(frozen=True)
class RelationFile:
    """A read CSV: its relations sorted by `q_id`, and the SHA-256 of its bytes."""

    path: Path
    sha256: str
    relations: tuple[Relation, ...]

    def warnings(self) -> list[str]:
        """One line for each relation with repeated pairs or ambiguous inputs."""
        lines = []
        for relation in self.relations:
            if relation.n_duplicates:
                lines.append(f"{relation.q_id}: {relation.n_duplicates} duplicate pairs; each is used once.")
            if relation.n_one_to_many:
                lines.append(f"{relation.q_id}: {relation.n_one_to_many} inputs have several outputs.")
        return lines


def normalise(text: str) -> str:
    """The form under which two strings count as the same: NFKC, case-folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def read_relations(data: DataConfig) -> RelationFile:
    """Read `data.relation_csv_path` and keep `data.qids`.

    Raises:
        RelationError: the file is missing, not UTF-8, lacks a column or has bad rows (all named with their line
            numbers); a wanted q_id is absent; `data.strict` and there are duplicates or ambiguous inputs.
    """
    path = _find(data.relation_csv_path)
    raw = path.read_bytes()
    rows = _parse(path, raw, data.columns)
    by_qid: dict[str, list[Pair]] = defaultdict(list)
    for q_id, pair in rows:
        by_qid[q_id].append(pair)
    wanted = sorted(by_qid) if data.qids is None else data.qids
    unknown = [q for q in wanted if q not in by_qid]
    if unknown:
        raise RelationError(f"{path} has no relation {shorten(unknown)}. It has: {shorten(sorted(by_qid), 40)}.")
    file = RelationFile(path, hashlib.sha256(raw).hexdigest(), tuple(_relation(q, by_qid[q]) for q in wanted))
    if data.strict and file.warnings():
        raise RelationError(f"{path} is refused because data.strict=true:\n  " + "\n  ".join(file.warnings()))
    return file


def _find(given: str) -> Path:
    """`given` as it is, or beside the package when it is relative and absent here."""
    beside = Path(__file__).resolve().parent.parent / given
    for path in (Path(given), beside):
        if path.is_file():
            return path
    raise RelationError(f"There is no relation CSV at {Path(given).absolute()}. Set data.relation_csv_path.")


def _parse(path: Path, raw: bytes, columns: ColumnsConfig) -> list[tuple[str, Pair]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        byte = f"0x{raw[error.start]:02X}"
        raise RelationError(f"{path} is not UTF-8: line {line} holds byte {byte} in column {column}.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = [columns.q_id, columns.exA, columns.exB]
    rows: list[tuple[str, Pair]] = []
    problems: list[str] = []
    start = 1  # the line on which the record being read begins
    try:
        header = next(reader, [])
        missing = [name for name in names if name not in header]
        repeated = [name for name in names if header.count(name) > 1]
        if missing or repeated:
            what = f"has no column {', '.join(missing)}" if missing else f"has column {', '.join(repeated)} twice"
            raise RelationError(f"{path}, line 1, {what}; its columns are: {', '.join(header) or 'none'}.")
        at = [header.index(name) for name in names]
        blank: list[int] = []
        start = reader.line_num + 1
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not cells:
                blank.append(line)
                continue
            problems += [f"line {n}: the row is empty" for n in blank]
            blank = []
            problem = _row_problem(cells, header, names, at)
            if problem:
                problems.append(f"line {line}: {problem}")
            else:
                q_id, ex_a, ex_b = (cells[i] for i in at)
                rows.append((q_id, Pair(ex_a, ex_b)))
    except csv.Error as error:
        raise RelationError(f"{path}: the row that begins on line {start} is not CSV: {error}.") from None
    if problems:
        more = f"\n  … and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
        raise RelationError(f"{path} has bad rows:\n  " + "\n  ".join(problems[:MAX_PROBLEMS]) + more)
    if not rows:
        raise RelationError(f"{path} has a header and no rows.")
    return rows


def _row_problem(cells: list[str], header: list[str], names: list[str], at: list[int]) -> str | None:
    if len(cells) != len(header):
        return f"{len(cells)} cells, where the header has {len(header)}"
    if not any(cell.strip() for cell in cells):
        return "the row is empty"
    empty = [name for name, i in zip(names, at, strict=True) if not cells[i].strip()]
    if empty:
        return f"column {', '.join(empty)} is empty"
    control = [name for name, i in zip(names, at, strict=True) if "\0" in cells[i]]
    return f"column {', '.join(control)} holds a NUL character" if control else None


def _relation(q_id: str, pairs: list[Pair]) -> Relation:
    distinct = tuple(dict.fromkeys(pairs))
    return Relation(q_id, distinct, len(pairs) - len(distinct), _count_ambiguous(distinct))


def _count_ambiguous(pairs: Iterable[Pair]) -> int:
    outputs: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        outputs[normalise(pair.exA)].add(normalise(pair.exB))
    return sum(len(several) > 1 for several in outputs.values())
