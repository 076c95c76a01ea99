"""Units: finished pieces of a step, which the same command need not compute again after a kill (spec section 7)."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fv.artifacts import digest_of, safe_name, write_npz

Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnitStore:
    """A folder of units, each a file of arrays under the digest of what it was made from.

    Attributes:
        folder: where they are; None keeps nothing.
        made_with: the settings, inputs and model of all of them, and the version of their layout: a JSON value.
    """

    folder: Path | None
    made_with: Any

    def find(self, name: str, made_from: Any) -> Arrays | None:
        """A finished unit, if it is of these settings and of `made_from`; anything else is to be computed again."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if str(arrays["key"]) == self._key(name, made_from):
                    return {key: arrays[key] for key in arrays.files}
                log.warning("%s is of other trials or settings; computing it again.", path.name)
        except FileNotFoundError:
            pass
        except Exception as error:  # a damaged zip fails in many ways; all of them mean "not finished"
            log.warning("%s is damaged (%s); computing it again.", path.name, type(error).__name__)
        return None

    def keep(self, name: str, made_from: Any, arrays: Arrays) -> None:
        """Write a finished unit."""
        if self.folder is not None:
            write_npz(self._path(name), key=np.array(self._key(name, made_from)), **arrays)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{safe_name(name)}.npz"

    def _key(self, name: str, made_from: Any) -> str:
        return digest_of([self.made_with, name, made_from])


NO_UNITS = UnitStore(None, None)
"""Finds nothing and keeps nothing."""
