"""Units: finished pieces of work under the digest of all they depend on (spec sections 4 and 7).

A unit that is there need not be computed again: after a kill, when a run grows, for another tag. All can be made again.
"""

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from fv.files import digest_of, safe_name, write_npz

if TYPE_CHECKING:
    import torch

Arrays = dict[str, np.ndarray]
ABOUT = "about"
"""The array of a unit's file that says, as JSON, what it is of, which arrays it has and what computed it."""
log = logging.getLogger(__name__)


class UnitName(NamedTuple):
    """What a unit is of; recorded in it, for its file's name is cut and cannot be taken apart.

    Attributes:
        kind: what was computed, such as `clean`, `effects`, `grid` or the name of an analysis.
        relation: whose it is; empty where it is no single relation's.
        part: which of several of one kind and relation.
    """

    kind: str
    relation: str = ""
    part: str = ""


class Keyed(Protocol):
    """What a store knows a unit by (`fv.work.flow.Unit`)."""

    @property
    def name(self) -> UnitName: ...

    @property
    def made_from(self) -> Any: ...


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

    def find(self, unit: Keyed) -> Arrays | None:
        """What a unit gave; None where it is not finished, or damaged."""
        if self.folder is None:
            return None
        path = self._path(unit)
        if self.fresh and path not in self._kept:
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                about = json.loads(str(stored[ABOUT]))
                arrays = {key: stored[key] for key in stored.files if key != ABOUT}
            # A zip whose directory is damaged may have lost a member without a word.
            if about["of"] != list(unit.name) or about["arrays"] != sorted(arrays):
                raise ValueError("it has other arrays than it says")
            self._saw(dict(about["machine"]))
            return arrays
        except FileNotFoundError:
            pass
        except Exception as error:  # a damaged zip fails in many ways; all of them mean "not finished"
            log.warning("%s is damaged (%s); computing it again.", path.name, type(error).__name__)
        return None

    def keep(self, unit: Keyed, arrays: Arrays) -> None:
        """Write what a unit gave, whole: another process that writes the same one at once does no harm."""
        if self.folder is not None:
            path = self._path(unit)
            self._saw(self.machine)
            about = {"of": list(unit.name), "arrays": sorted(arrays), "machine": self.machine}
            write_npz(path, **{ABOUT: np.array(json.dumps(about, ensure_ascii=False))}, **arrays)
            self._kept.add(path)

    def note(self, machine: dict[str, Any]) -> None:
        """Say what this process computes with from now on, where that has changed."""
        if self.folder is not None:
            self.machine.update(machine)

    def _saw(self, machine: dict[str, Any]) -> None:
        if machine not in self.machines:
            self.machines.append(dict(machine))

    def key(self, unit: Keyed) -> str:
        """What tells a unit from every other: a digest of its name and of all that it depends on."""
        return digest_of([self.made_with, list(unit.name), unit.made_from])[:32]

    def _path(self, unit: Keyed) -> Path:
        assert self.folder is not None
        shown = safe_name("-".join(part for part in unit.name if part))[:80]
        return self.folder / f"{shown}-{self.key(unit)}.npz"


NO_UNITS = UnitStore(None, None)
"""Finds nothing and keeps nothing."""


def unit_names(folder: Path) -> Iterator[tuple[Path, UnitName]]:
    """The file of each unit in a folder with what it is of, as it records it; one that is damaged is left out.

    Reads no arrays and needs no torch.
    """
    for path in sorted(folder.glob("*.npz")):
        try:
            with zipfile.ZipFile(path) as file:
                about = np.lib.format.read_array(io.BytesIO(file.read(f"{ABOUT}.npy")), allow_pickle=False)
            kind, relation, part = json.loads(str(about))["of"]
        except Exception as error:  # as above
            log.debug("%s is damaged: %s", path, error)
            continue
        yield path, UnitName(str(kind), str(relation), str(part))


def digest_of_tensor(values: "torch.Tensor") -> str:
    """SHA-256 of a tensor's numbers, type and shape, in hex."""
    shape = f"{values.dtype} {tuple(values.shape)} "
    return hashlib.sha256(shape.encode() + array_of(values).tobytes()).hexdigest()


def array_of(values: "torch.Tensor") -> np.ndarray:
    """A tensor as an array, exactly; NumPy has no bfloat16."""
    import torch

    return values.detach().to(torch.promote_types(values.dtype, torch.float32)).cpu().numpy()
