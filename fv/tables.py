"""Tables: converted exactly to NumPy arrays and back, for files; and printed with the columns that fit."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fv.display import leading_columns
from fv.markup import frame

TableRow = dict[str, Any]
"""Row of a table: {column: value}."""
Tables = dict[str, pd.DataFrame]
COLUMNS = "columns"
MOST_ROWS = 60
"""Most rows of a table that are printed."""


class LeadingTable(pd.DataFrame):
    """A pandas table that prints its first columns, as many as fit, and names the others below.

    A selection or a copy of it is an ordinary pandas table, which leaves out columns in the middle.
    """

    def __repr__(self) -> str:
        names = [str(name) for name in self.columns]
        n_text = next((i for i, own in enumerate(self.dtypes) if own.kind in "biuf"), len(names))
        rows = [[_shown(cell) for cell in row] for row in self.head(MOST_ROWS).itertuples(index=False)]
        more = f"\n… and {len(self) - MOST_ROWS} more rows" if len(self) > MOST_ROWS else ""
        return leading_columns(names, rows, n_text) + more

    def _repr_html_(self) -> str:
        return frame(self)


def _shown(cell: Any) -> str:
    if pd.isna(cell):
        return ""
    return f"{cell:.4g}" if isinstance(cell, float) else f"{cell}"


def stacked(rows: Sequence[Mapping[str, Any]], blocks: Sequence[Mapping[str, np.ndarray]]) -> pd.DataFrame:
    """One table of several blocks, each with values that all its rows share; as a concatenation of tables, but fast.

    Args:
        rows: for each block, {column: the value of all its rows}: numbers, truth values, texts or None.
        blocks: for each block, {column: values, (n_rows,)}, of one dtype per column.
    """
    counts = [len(next(iter(block.values()))) for block in blocks]
    shared = {name: _repeated([row[name] for row in rows], counts) for name in rows[0]}
    return pd.DataFrame({**shared, **{name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}})


def _repeated(values: Sequence[Any], counts: Sequence[int]) -> "pd.Series[Any]":
    """Each value as often as its count says, (sum of counts,), in the dtype that a concatenation would have."""
    repeated = np.repeat(_objects(values), counts)
    kinds = {type(value) for value in values}
    if kinds <= {int, float} or len(kinds) == 1:
        dtype = float if float in kinds else next(iter(kinds))
        return pd.Series(repeated, dtype=object if dtype is type(None) else dtype)
    return pd.Series(repeated, dtype=object)


def arrays_of(tables: Tables) -> dict[str, np.ndarray]:
    """Named tables as named arrays: one per column, and one with the columns' names and types.

    Two columns may have the same name: a column that is named after a relation may have any name.
    """
    columns = {table: [[str(name), str(own.dtype)] for name, own in rows.items()] for table, rows in tables.items()}
    arrays = {
        f"{table}.{i}": _encoded(own) for table, rows in tables.items() for i, (_, own) in enumerate(rows.items())
    }
    return {COLUMNS: np.array(json.dumps(columns)), **arrays}


def tables_of(arrays: Mapping[str, np.ndarray]) -> Tables:
    """The tables that `arrays_of` converted."""
    tables = {}
    for table, columns in json.loads(str(arrays[COLUMNS])).items():
        own = {i: _decoded(arrays[f"{table}.{i}"], dtype) for i, (_, dtype) in enumerate(columns)}
        tables[table] = pd.DataFrame(own)
        if columns:
            tables[table].columns = pd.Index([name for name, _ in columns])
    return tables


def _encoded(column: "pd.Series[Any]") -> np.ndarray:
    """Numbers unchanged, all else as one JSON value per row: both are read back exactly."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "bif":
        return column.to_numpy()
    known: dict[tuple[type, Any], str] = {}  # most columns of texts have few different ones
    texts = []
    for value in column.astype(object).where(column.notna(), None):
        key = type(value), value
        if key not in known:
            known[key] = json.dumps(value, ensure_ascii=False)
        texts.append(known[key])
    return np.array(texts, dtype=np.str_)


def _decoded(array: np.ndarray, dtype: str) -> "pd.Series[Any]":
    if array.dtype.kind in "bif":
        return pd.Series(array, dtype=dtype)
    different, where = np.unique(array, return_inverse=True)
    return pd.Series(_objects([json.loads(str(value)) for value in different])[where], dtype=dtype)


def _objects(values: Sequence[Any]) -> np.ndarray:
    """Values as an array of one dimension, also if they are lists of one length."""
    return np.fromiter(values, dtype=object, count=len(values))
