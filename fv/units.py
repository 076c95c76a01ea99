"""Units: finished pieces of work under the digest of all they depend on (spec sections 4 and 7).

A unit that is there need not be computed again: after a kill, when a run grows, for another tag. All can be made again.
"""

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fv.files import digest_of, safe_name, write_npz

Arrays = dict[str, np.ndarray]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnitStore:
    """A folder of units, each a file of arrays under the digest of what it was made from.

    Attributes:
        folder: where they are; None keeps nothing.
        made_with: what all of them depend on: a JSON value.
        machine: what this process computes with (threads, batches, device): kept in every unit, and no part of its key.
        fresh: whether only units that this store keeps itself are found.
        machines: those of all units that were found or kept so far, each once.
    """

    folder: Path | None
    made_with: Any
    machine: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False
    machines: list[dict[str, Any]] = field(default_factory=list)
    _kept: set[Path] = field(default_factory=set, repr=False)

    def find(self, name: str, made_from: Any) -> Arrays | None:
        """A finished unit of this name and of `made_from`; None where there is none, or it is damaged."""
        if self.folder is None:
            return None
        path = self._path(name, made_from)
        if self.fresh and path not in self._kept:
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self._saw(json.loads(str(arrays["machine"])))
                return {key: arrays[key] for key in arrays.files}
        except FileNotFoundError:
            pass
        except Exception as error:  # a damaged zip fails in many ways; all of them mean "not finished"
            log.warning("%s is damaged (%s); computing it again.", path.name, type(error).__name__)
        return None

    def keep(self, name: str, made_from: Any, arrays: Arrays) -> None:
        """Write a finished unit, whole: another process that writes the same one at once does no harm."""
        if self.folder is not None:
            path = self._path(name, made_from)
            self._saw(self.machine)
            write_npz(path, machine=np.array(json.dumps(self.machine)), **arrays)
            self._kept.add(path)

    def note(self, machine: dict[str, Any]) -> None:
        """Say what this process computes with from now on, where that has changed."""
        if self.folder is not None:
            self.machine.update(machine)

    def _saw(self, machine: dict[str, Any]) -> None:
        if machine not in self.machines:
            self.machines.append(dict(machine))

    def _path(self, name: str, made_from: Any) -> Path:
        assert self.folder is not None
        return self.folder / f"{safe_name(name)[:80]}-{digest_of([self.made_with, name, made_from])[:32]}.npz"


NO_UNITS = UnitStore(None, None)
"""Finds nothing and keeps nothing."""


def digest_of_tensor(values: torch.Tensor) -> str:
    """SHA-256 of a tensor's numbers, type and shape, in hex."""
    shape = f"{values.dtype} {tuple(values.shape)} "
    return hashlib.sha256(shape.encode() + array_of(values).tobytes()).hexdigest()


def array_of(values: torch.Tensor) -> np.ndarray:
    """A tensor as an array, exactly; NumPy has no bfloat16."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()
