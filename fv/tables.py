"""Tables as NumPy arrays and back, exactly: for files that are read by the code that wrote them."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

Tables = dict[str, pd.DataFrame]
COLUMNS = "columns"


def arrays_of(tables: Tables) -> dict[str, np.ndarray]:
    """Named tables as named arrays, one a column, and one that says which column is whose and of which type."""
    columns = {table: {str(c): str(rows[c].dtype) for c in rows} for table, rows in tables.items()}
    arrays = {f"{table}.{c}": _encoded(rows[c]) for table, rows in tables.items() for c in rows}
    return {COLUMNS: np.array(json.dumps(columns)), **arrays}


def tables_of(arrays: Mapping[str, np.ndarray]) -> Tables:
    """The tables that `arrays_of` took apart."""
    columns = json.loads(str(arrays[COLUMNS]))
    return {
        table: pd.DataFrame({c: _decoded(arrays[f"{table}.{c}"], dtype) for c, dtype in dtypes.items()})
        for table, dtypes in columns.items()
    }


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
