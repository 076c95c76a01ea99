"""Rows of JSON files: published lists and objects, and files of one object per line."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from fv.config import ColumnsConfig, DataConfig, Form
from fv.data.file_kinds import seeming_text
from fv.data.rows import BadRow, Row, make_row, others
from fv.errors import RelationError, shorten

KEYS = (("input", "output"), ("subject", "object"))
"""Keys of exA and exB in published files; tried after the configured names."""
_SPACE = re.compile(r"[ \t\r\n]*")


def _unique(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has one key twice")
    return found


# Numbers stay as written: 1.50 is read as "1.50".
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=str, parse_float=str)


def json_line_rows(path: Path, text: str, file: str, columns: ColumnsConfig) -> Iterator[Row | BadRow]:
    """Rows of a file with one JSON object per line; a line that is not JSON is a bad row."""

    def items() -> Iterator[tuple[int, Any]]:
        for line, content in enumerate(text.split("\n"), 1):
            if not content.strip():
                continue
            try:
                yield line, _DECODER.decode(content)
            except json.JSONDecodeError as error:
                yield line, BadRow(file, line, f"not JSON in column {error.colno}: {error.msg}")
            except (ValueError, RecursionError) as error:
                yield line, BadRow(file, line, f"not usable JSON: {error}")

    return _item_rows(path, items(), file, columns)


def json_rows(
    path: Path, text: str, file: str, columns: ColumnsConfig, form: Form = DataConfig.form, name: str = "form"
) -> Iterator[Row | BadRow]:
    """Rows of a list, of an object with `samples`, or of several objects in sequence.

    Args:
        path: the file; it appears in messages, and its name is the relation's if the file does not name one.
        text: the file's text.
        file: the file's name in its folder.
        columns: names of the three columns.
        form: `function_vectors` takes lists only, `lre` objects with `samples` only.
        name: the name of `form` in messages.

    Raises:
        RelationError: the text is not JSON or does not have its form, or the first item lacks a key.
    """
    try:
        at = _skip(text, 0)
        if form is not Form.auto and text[at : at + 1] != (due := "[" if form is Form.function_vectors else "{"):
            told = f"{path} is not of {name}={form.value}: it does not begin with {due}."
            raise RelationError(told + seeming_text(text, name))
        if text[at : at + 1] == "{":
            first, end = _DECODER.raw_decode(text, at)
            if not isinstance(first.get("samples"), list):
                if form is Form.lre or (_skip(text, end) == len(text) and not keys_of(first, columns)):
                    raise RelationError(f"{path} is a JSON object without a list `samples`.")
                yield from json_line_rows(path, text, file, columns)
                return
        elif text[at : at + 1] != "[":
            raise RelationError(f"{path} is neither a JSON list nor a JSON object.{seeming_text(text, name)}")
        yield from _item_rows(path, _items(text, at), file, columns)
    except json.JSONDecodeError as error:
        raise RelationError(f"{path} is not JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except (ValueError, RecursionError) as error:
        raise RelationError(f"{path} is not usable JSON: {error}.") from None


# Lists are parsed by hand, because a message names a row by its line: `json` says where a value ends, but neither it
# nor ijson or orjson says where the elements of a list begin. The decoder parses the values themselves.


def _items(text: str, at: int) -> Iterator[tuple[int, Any]]:
    """The elements of the list at `at`, or of the object's `samples`, each with its line."""
    line, counted = 1, 0
    elements = _elements(text, at) if text[at] == "[" else _samples(text, at)
    for start, value in elements:
        line, counted = line + text.count("\n", counted, start), start
        yield line, value


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found is not None  # it always matches, if only the empty text
    return found.end()


def _samples(text: str, at: int) -> Iterator[tuple[int, Any]]:
    """The elements of `samples` with their positions; the object at `at` is known to be valid and to have the key."""
    at = _skip(text, at + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        if key == "samples":
            # The object is known to be valid, so only the text after the object still has to be checked.
            yield from _elements(text, at, last=False)
        _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    _refuse_more(text, at + 1)


def _elements(text: str, at: int, last: bool = True) -> Iterator[tuple[int, Any]]:
    at = _skip(text, at + 1)
    if text[at : at + 1] != "]":
        while True:
            value, end = _DECODER.raw_decode(text, at)
            yield at, value
            at = _skip(text, end)
            if text[at : at + 1] == "]":
                break
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _skip(text, at + 1)
    if last:
        _refuse_more(text, at + 1)


def _refuse_more(text: str, at: int) -> None:
    if (at := _skip(text, at)) < len(text):
        raise json.JSONDecodeError("Extra data", text, at)


def keys_of(item: Mapping[str, Any], columns: ColumnsConfig) -> tuple[str, str] | None:
    """The keys under which an item has exA and exB; None if it has no known pair of keys."""
    return next((pair for pair in ((columns.exA, columns.exB), *KEYS) if all(key in item for key in pair)), None)


def _item_rows(
    path: Path, items: Iterator[tuple[int, Any]], file: str, columns: ColumnsConfig
) -> Iterator[Row | BadRow]:
    """Rows of JSON objects; the first object determines the keys."""
    names: list[str] | None = None
    for line, item in items:
        if isinstance(item, BadRow):
            yield item
            continue
        if not isinstance(item, dict):
            yield BadRow(file, line, "not a JSON object")
            continue
        if names is None:
            keys = keys_of(item, columns)
            if keys is None or (columns.q_id not in item and columns.q_id != ColumnsConfig.q_id):
                wanted = [columns.q_id, columns.exA, columns.exB]
                raise RelationError(
                    f"{path}, line {line}: no keys {', '.join(wanted)}; "
                    f"there are: {shorten(list(item), 40) or 'none'}. "
                    f"{others(columns)}"
                )
            named = columns.q_id in item
            names = [columns.q_id, *keys]
        missing = [name for name in names[not named :] if name not in item]
        if missing:
            yield BadRow(file, line, f"no key {', '.join(missing)}")
            continue
        q_id = item[names[0]] if named else path.stem
        yield make_row(file, line, names, (q_id, item[names[1]], item[names[2]]))
