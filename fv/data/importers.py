"""Importers: files of several forms, read into rows of (q_id, exA, exB), each with its file and line.

| form | recognised, if not given, by | relation's name |
| --- | --- | --- |
| `csv`, `tsv` | suffix; any other text by its first line | column `q_id` |
| `function_vectors`: JSON list of `{"input": …, "output": …}` | `[` | key `q_id`, else the file's name |
| `lre`: JSON object with `samples` of `{"subject": …, "object": …}` | `{` and `samples` | the same |
| `jsonl`: one JSON object per line | suffix, or several objects in sequence | the same |
| `parquet` | its first bytes | column `q_id`; a "line" is a row |
| `folder` of these | | each file by its own form; other suffixes are skipped |

A cell is read exactly as written, newlines and spaces included; otherwise its row is reported as bad.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from fv.config import ColumnsConfig, DataConfig, Form
from fv.data.file_kinds import seeming_bytes, seeming_text
from fv.data.json_rows import json_line_rows, json_rows
from fv.data.rows import LONGEST_CELL, MOST_ROWS, BadRow, Row, Table, make_row, others
from fv.errors import RelationError, shorten

SUFFIXES = {
    Form.csv: (".csv",),
    Form.tsv: (".tsv",),
    Form.function_vectors: (".json",),
    Form.lre: (".json",),
    Form.jsonl: (".jsonl", ".ndjson"),
    Form.parquet: (".parquet",),
}
"""Suffixes by which a folder's files of a form are found."""
TEXT_FORMS = {suffix: form for form in (Form.csv, Form.tsv, Form.jsonl) for suffix in SUFFIXES[form]}
"""Forms that a suffix alone identifies."""
CLUSTERS_FILE = "clusters.csv"
"""Name of the file that lists relations about the same words (`fv.data.clusters`)."""
csv.field_size_limit(2**31 - 1)  # a cell may be a whole passage


def read_table(
    path: Path,
    columns: ColumnsConfig,
    form: Form = DataConfig.form,
    name: str = "form",
    include: Sequence[str] | None = None,
    include_name: str = "include",
) -> Table:
    """Read a file, or every file with a known suffix in a folder and its subfolders, except `clusters.csv`.

    Args:
        path: the file or folder.
        columns: names of the three columns.
        form: the form of each file; in a folder, files with another suffix are skipped.
        name: the name of `form` in messages.
        include: patterns of the files of a folder to read, such as `*.csv`; a pattern that begins with `!` excludes
            files; None for all.
        include_name: the name of `include` in messages.

    Raises:
        RelationError: a file is not UTF-8, does not have its form, or lacks a column; a folder has no file to read, or
            two files that give a relation the same name; `include` is given for a file.
    """
    if not path.is_dir():
        if include is not None:
            raise RelationError(f"{path} is a file, and {include_name} says which files of a folder are read.")
        if form is Form.folder:
            raise RelationError(f"{path} is a file, and {name}=folder reads folders.")
        raw = path.read_bytes()
        return _gathered(path, hashlib.sha256(raw).hexdigest(), _rows_of(path, raw, "", columns, form, name))
    suffixes = SUFFIXES.get(form) or tuple(dict.fromkeys(chain.from_iterable(SUFFIXES.values())))
    files = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.suffix.lower() in suffixes and file.is_file() and not file.name.startswith(".")
        if file.name != CLUSTERS_FILE
    )
    if not files:
        raise RelationError(f"{path} holds no file to read; known are {', '.join(suffixes)}.")
    kept = [file for file in files if include is None or _is_included(file, include)]
    if not kept:
        raise RelationError(f"{include_name}={include} leaves none of the files of {path}: {shorten(files)}.")
    digest = hashlib.sha256()

    def rows() -> Iterator[Row | BadRow]:
        for file in kept:
            raw = (path / file).read_bytes()
            digest.update(f"{file}\0{hashlib.sha256(raw).hexdigest()}\n".encode())
            try:
                yield from _rows_of(path / file, raw, file, columns, form, name)
            except RelationError as error:
                out = [*(include or []), f"!{file}"]
                raise RelationError(f"{error}\nTo go on without this file: {include_name}={json.dumps(out)}") from None

    table = _gathered(path, "", rows())
    _check_names(table)
    return Table(path, digest.hexdigest(), table.rows, table.bad)


def _is_included(file: str, patterns: Sequence[str]) -> bool:
    """True if the patterns include a file, by its path in the folder or by its name."""

    def fits(pattern: str) -> bool:
        return any(fnmatchcase(name, pattern) for name in (file, Path(file).name))

    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    left_out = any(fits(pattern[1:]) for pattern in patterns if pattern.startswith("!"))
    return not left_out and (not wanted or any(map(fits, wanted)))


def _gathered(path: Path, sha256: str, found: Iterator[Row | BadRow]) -> Table:
    table = Table(path, sha256, [], [])
    for number, row in enumerate(found):
        _check_count(path, number + 1)
        if isinstance(row, BadRow):
            table.bad.append(row)
        else:
            table.rows.append(row)
    return table


def _check_count(path: Path, n: int) -> None:
    """Refuse more than `MOST_ROWS` rows."""
    if n > MOST_ROWS:
        raise RelationError(f"{path} has more than {MOST_ROWS:,} rows; take a part of them.")


def _check_names(table: Table) -> None:
    """Refuse two files of the same name in different subfolders: they would silently become one relation."""
    files: dict[str, set[str]] = {}
    for row in table.rows:
        if row.file.lower().endswith((".json", ".jsonl", ".ndjson")) and Path(row.file).stem == row.q_id:
            files.setdefault(row.q_id, set()).add(row.file)
    for q_id, several in files.items():
        if len(several) > 1:
            raise RelationError(
                f"{table.path}: relation {q_id} comes from several files: {shorten(sorted(several))}. "
                "Rename one, or read one of the subfolders only."
            )


def _rows_of(
    path: Path, raw: bytes, file: str, columns: ColumnsConfig, form: Form, name: str
) -> Iterator[Row | BadRow]:
    """The rows of one file, in the given form or, with `auto`, in the form that it seems to have."""
    suffix = path.suffix.lower()
    known = form not in (Form.auto, Form.folder)
    if form is Form.parquet or (not known and (suffix == ".parquet" or raw.startswith(b"PAR1"))):
        return _parquet_rows(path, raw, file, columns, name)
    text = decoded(path, raw, name)
    if not known:
        # A .json file may hold a list, an object, or several objects in sequence.
        if suffix == ".json" or (suffix not in TEXT_FORMS and text.lstrip()[:1] in ("[", "{")):
            return json_rows(path, text, file, columns)
        form = TEXT_FORMS.get(suffix) or (Form.tsv if "\t" in text.partition("\n")[0] else Form.csv)
    if form is Form.jsonl:
        return json_line_rows(path, text, file, columns)
    if form in (Form.csv, Form.tsv):
        return _csv_rows(path, text, file, columns, "," if form is Form.csv else "\t", name)
    return json_rows(path, text, file, columns, form, name)


def decoded(path: Path, raw: bytes, name: str = "form") -> str:
    """The text of a file in UTF-8, without its byte order mark.

    Args:
        path: for messages.
        raw: the file's bytes.
        name: the name, in messages, of the setting for the form of a file.

    Raises:
        RelationError: the bytes are not UTF-8; names the first line and byte that are not.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Positions count from after a byte order mark, which the codec removes first.
        start = error.start + (3 if raw.startswith(b"\xef\xbb\xbf") and len(error.object) < len(raw) else 0)
        line = raw.count(b"\n", 0, start) + 1
        column = start - raw.rfind(b"\n", 0, start)
        told = f"{path} is not UTF-8: line {line} holds byte 0x{raw[start]:02X} in column {column}."
        raise RelationError(told + seeming_bytes(raw, name)) from None


def _check_columns(
    path: Path, header: list[str], columns: ColumnsConfig, seeming: Callable[[], str] = str
) -> list[int]:
    """Places of the three columns; if they are missing, `seeming` says what the file seems to be.

    Raises:
        RelationError: a column is missing, or repeated.
    """
    names = [columns.q_id, columns.exA, columns.exB]
    missing = [name for name in names if name not in header]
    repeated = [name for name in names if header.count(name) > 1]
    if missing or repeated:
        what = f"has no column {', '.join(missing)}" if missing else f"has column {', '.join(repeated)} twice"
        few = len(header) < len(names) and not repeated
        remedy = f" Add {', '.join(missing)}: relations, inputs and outputs are three columns." if few else ""
        raise RelationError(
            f"{path}, line 1, {what}; its columns are: {shorten(header, 40) or 'none'}."
            f"{seeming() or remedy or f' {others(columns)}'}"
        )
    return [header.index(name) for name in names]


def _csv_rows(
    path: Path, text: str, file: str, columns: ColumnsConfig, delimiter: str, name: str
) -> Iterator[Row | BadRow]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    names = [columns.q_id, columns.exA, columns.exB]
    start = 1  # the line on which the record being read begins
    try:
        header = next(reader, [])
        q, a, b = _check_columns(path, header, columns, partial(seeming_text, text, name, delimiter))
        blank: list[int] = []
        start = reader.line_num + 1
        for cells in reader:
            line, start = start, reader.line_num + 1
            if not cells:
                blank.append(line)
                continue
            # Blank lines at the very end are no rows; between rows they are bad rows.
            yield from (BadRow(file, n, "the row is empty") for n in blank)
            blank.clear()
            if len(cells) != len(header):
                yield BadRow(file, line, f"{len(cells)} cells, where the header has {len(header)}")
            elif not any(map(str.strip, cells)):
                yield BadRow(file, line, "the row is empty")
            else:
                yield make_row(file, line, names, (cells[q], cells[a], cells[b]))
    except csv.Error as error:
        raise RelationError(
            f"{path}: the row that begins on line {start} is not CSV: {error}.{seeming_text(text, name, delimiter)}"
        ) from None


def _seeming(raw: bytes, name: str) -> str:
    try:
        return seeming_text(raw.decode("utf-8-sig"), name)
    except UnicodeDecodeError:
        return seeming_bytes(raw, name)


def _parquet_rows(path: Path, raw: bytes, file: str, columns: ColumnsConfig, name: str) -> Iterator[Row | BadRow]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise RelationError(
            f"{path} is Parquet, which needs pyarrow: pip install 'function-vectors[parquet]'."
        ) from None
    try:
        source = parquet.ParquetFile(io.BytesIO(raw))
    except (pyarrow.ArrowException, OSError) as error:
        told = str(error).splitlines()[0].rstrip(".")
        seeming = "" if raw.startswith(b"PAR1") else _seeming(raw, name)
        raise RelationError(f"{path} is not Parquet: {told}.{seeming}") from None
    names = [columns.q_id, columns.exA, columns.exB]
    _check_columns(path, list(source.schema_arrow.names), columns)
    _check_count(path, source.metadata.num_rows)
    # A column that repeats a cell is small in the file and huge once expanded, so cells are checked before that.
    source = parquet.ParquetFile(io.BytesIO(raw), read_dictionary=names)
    line = 0
    for batch in source.iter_batches(columns=names):
        for column in names:
            _check_cells(path, column, batch.column(column))
        for values in zip(*(batch.column(name).to_pylist() for name in names), strict=True):
            line += 1
            yield make_row(file, line, names, values)


def _check_cells(path: Path, name: str, column: Any) -> None:
    """Refuse a column of a Parquet file that has a cell longer than `LONGEST_CELL`; columns without text pass."""
    import pyarrow
    import pyarrow.compute

    texts = column.dictionary if isinstance(column, pyarrow.DictionaryArray) else column
    if not (pyarrow.types.is_string(texts.type) or pyarrow.types.is_large_string(texts.type)):
        return
    longest = pyarrow.compute.max(pyarrow.compute.utf8_length(texts)).as_py()
    if longest is not None and longest > LONGEST_CELL:
        raise RelationError(f"{path}: column {name} has a cell of {longest:,} characters, more than {LONGEST_CELL:,}.")
