"""Tables: as NumPy arrays and back, exactly, for files that the code that wrote them reads; and as they are printed."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fv.display import leading_columns
from fv.markup import frame

Tables = dict[str, pd.DataFrame]
COLUMNS = "columns"
MOST_ROWS = 60
"""Rows of a table that are printed."""


class LeadingTable(pd.DataFrame):
    """A pandas table that is printed with its first columns, as many as fit; the others are named below.

    What is made of it (a selection, a copy) is a pandas table as any other, which leaves out columns of the middle.
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


def arrays_of(tables: Tables) -> dict[str, np.ndarray]:
    """Named tables as named arrays, one a column, and one that says what each column is called and of which type.

    Two columns may go by one name: a column that is named after a relation may be called as any other.
    """
    columns = {table: [[str(name), str(own.dtype)] for name, own in rows.items()] for table, rows in tables.items()}
    arrays = {
        f"{table}.{i}": _encoded(own) for table, rows in tables.items() for i, (_, own) in enumerate(rows.items())
    }
    return {COLUMNS: np.array(json.dumps(columns)), **arrays}


def tables_of(arrays: Mapping[str, np.ndarray]) -> Tables:
    """The tables that `arrays_of` took apart."""
    tables = {}
    for table, columns in json.loads(str(arrays[COLUMNS])).items():
        own = {i: _decoded(arrays[f"{table}.{i}"], dtype) for i, (_, dtype) in enumerate(columns)}
        tables[table] = pd.DataFrame(own)
        if columns:
            tables[table].columns = pd.Index([name for name, _ in columns])
    return tables


def _encoded(column: "pd.Series[Any]") -> np.ndarray:
    """Numbers as they are, all else as JSON, a value each: both are read back exactly."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "bif":
        return column.to_numpy()
    values = column.astype(object).where(column.notna(), None)
    return np.array([json.dumps(value, ensure_ascii=False) for value in values], dtype=np.str_)


def _decoded(array: np.ndarray, dtype: str) -> "pd.Series[Any]":
    if array.dtype.kind in "bif":
        return pd.Series(array, dtype=dtype)
    return pd.Series(np.array([json.loads(str(value)) for value in array], dtype=object), dtype=dtype)
