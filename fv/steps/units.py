"""Units: finished pieces of a step, which the same command need not compute again after a kill (spec section 7)."""

import json
import logging
from dataclasses import dataclass, field
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
        machine: what this process computes with (`fv.run.machine_settings`): kept in every unit, and no part of its
            key.
        machines: those of all units that were found or kept so far, each once.
    """

    folder: Path | None
    made_with: Any
    machine: dict[str, Any] = field(default_factory=dict)
    machines: list[dict[str, Any]] = field(default_factory=list)

    def find(self, name: str, made_from: Any) -> Arrays | None:
        """A finished unit, if it is of these settings and of `made_from`; anything else is to be computed again."""
        if self.folder is None:
            return None
        path = self._path(name)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                if str(arrays["key"]) == self._key(name, made_from):
                    self._saw(json.loads(str(arrays["machine"])))
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
            self._saw(self.machine)
            own = {"key": np.array(self._key(name, made_from)), "machine": np.array(json.dumps(self.machine))}
            write_npz(self._path(name), **own, **arrays)

    def _saw(self, machine: dict[str, Any]) -> None:
        if machine not in self.machines:
            self.machines.append(machine)

    def _path(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{safe_name(name)}.npz"

    def _key(self, name: str, made_from: Any) -> str:
        return digest_of([self.made_with, name, made_from])


NO_UNITS = UnitStore(None, None)
"""Finds nothing and keeps nothing."""
