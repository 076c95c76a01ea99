"""Reading relations from a file of any form, or from pairs in memory."""

from collections.abc import Iterable, Mapping, MappingView, Sequence, Set
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from fv.config import ColumnsConfig, DataConfig, Form
from fv.data.json_rows import KEYS, keys_of
from fv.data.relations import MAX_PROBLEMS, Relation, Relations, bad_rows, in_clusters, read_configured, relations_of
from fv.data.rows import BadRow, Row, Table, make_row
from fv.errors import RelationError, one_of, shorten
from fv.files import digest_of

IN_MEMORY = Path("in memory")
"""The path of relations that come from no file."""
PairLike: TypeAlias = Sequence[str] | Mapping[str, str]
"""An input and its right output, as a sequence or by the keys that files use: {"input": …, "output": …}."""
RelationsLike: TypeAlias = Mapping[str, Relation] | Mapping[str, Iterable[PairLike]]
"""Relations, or pairs of an input and its right output: {name: pairs}."""


def read_relations(
    path: str | PathLike[str] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    form: str = "auto",
    names: Sequence[str] | None = None,
    include: Sequence[str] | None = None,
) -> Relations:
    """Read relations from a file, or from every file in a folder.

    Args:
        path: a CSV, TSV, JSON, JSONL or Parquet file, or a folder of such; None for the relations that come with the
            installation.
        columns: the file's names for the columns `q_id`, `exA` and `exB` (relation, input, output).
        form: the form of the file (`csv`, `tsv`, `function_vectors`, `lre`, `jsonl`, `parquet`, `folder`); `auto`
            detects it.
        names: the relations to keep; None for all.
        include: the files of a folder to read: patterns such as `*.csv`, and `!notes.json` to exclude one; None for
            all.

    Returns:
        {name: relation}, sorted by name.

    Raises:
        RelationError: there is no such file, it cannot be read as relations (bad rows are named with their lines), or
            one of `names` is not in it.
        ConfigError: `columns` or `form` is not one of those above.

    Example:
        >>> relations = fv.read_relations(names=["antonym"])
        >>> relations["antonym"].pairs[0].exA
        'above'
    """
    one_of("form", form, Form, RelationError)
    named = dict(columns or {})
    if unknown := sorted(set(named) - {"q_id", "exA", "exB"}):
        raise RelationError(f"columns names {shorten(unknown)}; it may name q_id, exA and exB.")
    for name, several, kind in (("names", names, "relations' names"), ("include", include, "patterns")):
        if isinstance(several, str):
            raise RelationError(f"{name}={several!r} must be a list of {kind}, such as [{several!r}].")
    kept, files = (None if several is None else list(several) for several in (names, include))
    if path is None:
        return read_configured(DataConfig(qids=kept, include=files))
    settings = DataConfig(path=str(path), form=Form(form), columns=ColumnsConfig(**named), qids=kept, include=files)
    return read_configured(settings)


def as_relations(given: RelationsLike) -> Relations:
    """Relations from a caller's objects: `Relations` unchanged, a mapping checked in the same way as a file's rows.

    Raises:
        RelationError: the object is no mapping of relations; a text is empty or no text; there is no pair.
    """
    if isinstance(given, Relations):
        return given
    if not isinstance(given, Mapping):
        kind = type(given).__name__
        raise RelationError(
            f'relations is a {kind}, where {{"antonym": [("hot", "cold"), …]}} or what read_relations gives is due.'
        )
    rows: list[Row] = []
    bad: list[BadRow] = []
    for name, pairs in given.items():
        for row in _rows(name, pairs.pairs if isinstance(pairs, Relation) else pairs):
            (bad if isinstance(row, BadRow) else rows).append(row)  # type: ignore[arg-type]
    table = Table(IN_MEMORY, digest_of([row[:3] for row in rows]), rows, bad)
    if bad:
        raise RelationError(bad_rows(table, MAX_PROBLEMS))
    if not rows:
        raise RelationError("relations holds no pair.")
    kept = {str(name): own.cluster for name, own in given.items() if isinstance(own, Relation) and own.cluster}
    return in_clusters(relations_of(table, None), kept)


def _rows(name: str, pairs: Iterable[PairLike]) -> Iterable[Row | BadRow]:
    """A relation's rows; the line is the number of the pair, from 1."""
    if isinstance(pairs, str | Mapping) or _is_unordered(pairs) or not isinstance(pairs, Iterable):
        yield BadRow(str(name), 1, f'is a {type(pairs).__name__}, where a list such as [("hot", "cold"), …] is due')
        return
    for number, pair in enumerate(pairs, 1):
        texts = _texts_of(pair)
        if isinstance(texts, str):
            yield BadRow(str(name), number, texts)
        else:
            yield make_row(str(name), number, ["name", "input", "output"], (name, *texts))


def _texts_of(pair: Any) -> tuple[Any, Any] | str:
    """Input and output of a caller's pair, or a text that says what is wrong with it."""
    if isinstance(pair, Mapping):
        keys = keys_of(pair, ColumnsConfig())
        if keys is None or len(pair) > 2:
            known = " or ".join(" and ".join(each) for each in ((ColumnsConfig.exA, ColumnsConfig.exB), *KEYS))
            return f"has the keys {shorten(list(map(repr, pair))) or 'of none'}, where {known} alone are due"
        return pair[keys[0]], pair[keys[1]]
    if _is_unordered(pair):
        return f"is {pair!r}, a {type(pair).__name__}, which has no order: give a pair as (input, output)"
    texts = tuple(islice(pair, 3)) if isinstance(pair, Iterable) and not isinstance(pair, str | bytes) else ()
    return (texts[0], texts[1]) if len(texts) == 2 else f"is {pair!r}, where a pair of input and output is due"


def _is_unordered(value: object) -> bool:
    """True of a set, whose elements have no order; views of a dict keep its order."""
    return isinstance(value, Set) and not isinstance(value, MappingView)
