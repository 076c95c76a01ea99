"""Finished pieces of Step6: tables that the same command need not compute again after a kill (spec section 7)."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fv.artifacts import digest_of, safe_name, write_npz
from fv.config import Config
from fv.models.language_model import LanguageModel
from fv.run import sweep_settings

UNITS = "units"
SCHEMA = 1
"""Part of a unit's key: units of an older layout are computed again."""
Tables = dict[str, pd.DataFrame]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnitStore:
    """A folder of units, each a file of tables under the digest of what it was made from.

    Attributes:
        folder: where they are; None keeps nothing.
        made_with: the settings, inputs and model of all of them, a JSON value.
    """

    folder: Path | None
    made_with: Any

    def find(self, name: str, made_from: Any) -> Tables | None:
        """A finished unit, if it is of these settings and of `made_from`; anything else is computed again."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if str(arrays["key"]) != self._key(name, made_from):
                    log.warning("%s is of other settings; computing it again.", path.name)
                    return None
                tables = json.loads(str(arrays["tables"]))
                return {table: _decoded(columns, arrays, table) for table, columns in tables.items()}
        except FileNotFoundError:
            return None
        except Exception as error:  # a damaged zip fails in many ways; all of them mean "not finished"
            log.warning("%s is damaged (%s); computing it again.", path.name, type(error).__name__)
            return None

    def keep(self, name: str, made_from: Any, tables: Tables) -> None:
        """Write a finished unit."""
        if self.folder is None:
            return
        columns = {table: {str(c): str(rows[c].dtype) for c in rows} for table, rows in tables.items()}
        arrays = {f"{table}.{c}": _encoded(rows[c]) for table, rows in tables.items() for c in rows}
        key = self._key(name, made_from)
        write_npz(self._path(name), key=np.array(key), tables=np.array(json.dumps(columns)), **arrays)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{safe_name(name)}.npz"

    def _key(self, name: str, made_from: Any) -> str:
        return digest_of([SCHEMA, self.made_with, name, made_from])


NO_UNITS = UnitStore(None, None)
"""Finds nothing and keeps nothing."""


def units_of(folder: Path, config: Config, lm: LanguageModel, meta: dict[str, Any]) -> UnitStore:
    """The units of the Step6 that `meta` describes and `folder` will hold."""
    return UnitStore(folder / UNITS, [meta["settings"], meta["inputs"], lm.fingerprint, sweep_settings(config)])


def clear_units(folder: Path) -> None:
    """Throw a Step6's units away: its files hold all that they do, or it is to start over."""
    shutil.rmtree(folder / UNITS, ignore_errors=True)


def _encoded(column: "pd.Series[Any]") -> np.ndarray:
    """Numbers as they are, all else as JSON, a value each: both are read back exactly."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "bif":
        return column.to_numpy()
    values = column.astype(object).where(column.notna(), None)
    return np.array([json.dumps(value, ensure_ascii=False) for value in values], dtype=np.str_)


def _decoded(columns: dict[str, str], arrays: Any, table: str) -> pd.DataFrame:
    found = {}
    for column, dtype in columns.items():
        array = arrays[f"{table}.{column}"]
        values = array if array.dtype.kind in "bif" else np.array([json.loads(str(v)) for v in array], dtype=object)
        found[column] = pd.Series(values, dtype=dtype)
    return pd.DataFrame(found)
