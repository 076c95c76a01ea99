"""The store of units: finished pieces of work under the digest of all that they depend on (spec sections 4 and 7).

A stored unit need not be computed again: after a kill, when a run grows, for another tag. A lost one can be.
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

from fv.files import JsonObject, digest_of, safe_name, write_npz

if TYPE_CHECKING:
    import torch

Arrays = dict[str, np.ndarray]
ABOUT = "about"
"""The array of a unit's file that holds, as JSON, the unit's name, its arrays and the machine that computed it."""
log = logging.getLogger(__name__)


class UnitName(NamedTuple):
    """The name of a unit; recorded in its file, because the file's name is shortened and cannot be parsed.

    Attributes:
        kind: what was computed, such as `clean`, `effects`, `grid` or the name of an analysis.
        relation: its relation; empty if it belongs to no single one.
        part: tells apart the units of one kind and relation.
    """

    kind: str
    relation: str = ""
    part: str = ""


class Keyed(Protocol):
    """The properties by which a store identifies a unit (`fv.work.flow.Unit`)."""

    @property
    def name(self) -> UnitName: ...

    @property
    def made_from(self) -> Any: ...


@dataclass(frozen=True)
class UnitStore:
    """A folder of units, each a file of arrays under the digest of what it was made from.

    Attributes:
        folder: the folder; None keeps nothing.
        made_with: what all units depend on: a JSON value.
        machine: what this process computes with (threads, batches, device): kept in every unit, not part of its key.
        fresh: whether only units that this store has kept itself are found.
        machines: the machines of all units that were found or kept so far, each once.
    """

    folder: Path | None
    made_with: Any
    machine: JsonObject = field(default_factory=dict)
    fresh: bool = False
    machines: list[JsonObject] = field(default_factory=list)
    _kept: set[Path] = field(default_factory=set, repr=False)

    def find(self, unit: Keyed) -> Arrays | None:
        """The arrays of a unit; None if it is not finished, or damaged."""
        if self.folder is None:
            return None
        path = self._path(unit)
        if self.fresh and path not in self._kept:
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                about = json.loads(str(stored[ABOUT]))
                arrays = {key: stored[key] for key in stored.files if key != ABOUT}
            # A zip with a damaged directory may lack a member without an error.
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
        """Write a unit's arrays, whole; another process may write the same unit at the same time."""
        if self.folder is not None:
            path = self._path(unit)
            self._saw(self.machine)
            about = {"of": list(unit.name), "arrays": sorted(arrays), "machine": self.machine}
            write_npz(path, **{ABOUT: np.array(json.dumps(about, ensure_ascii=False))}, **arrays)
            self._kept.add(path)

    def note(self, machine: JsonObject) -> None:
        """Record a change of what this process computes with."""
        if self.folder is not None:
            self.machine.update(machine)

    def _saw(self, machine: JsonObject) -> None:
        if machine not in self.machines:
            self.machines.append(dict(machine))

    def key(self, unit: Keyed) -> str:
        """The key of a unit: a digest of its name and of all that it depends on."""
        return digest_of([self.made_with, list(unit.name), unit.made_from])[:32]

    def _path(self, unit: Keyed) -> Path:
        assert self.folder is not None
        shown = safe_name("-".join(part for part in unit.name if part))[:80]
        return self.folder / f"{shown}-{self.key(unit)}.npz"


NO_UNITS = UnitStore(None, None)
"""A store that finds nothing and keeps nothing."""


def unit_names(folder: Path) -> Iterator[tuple[Path, UnitName]]:
    """The file of each unit in a folder, with the name that it records; a damaged file is left out.

    Reads no arrays and needs no torch.
    """
    for path in sorted(folder.glob("*.npz")):
        try:
            with zipfile.ZipFile(path) as file:
                about = np.lib.format.read_array(io.BytesIO(file.read(f"{ABOUT}.npy")), allow_pickle=False)
            kind, relation, part = json.loads(str(about))["of"]
        except Exception as error:  # as in `find`
            log.debug("%s is damaged: %s", path, error)
            continue
        yield path, UnitName(str(kind), str(relation), str(part))


def digest_of_tensor(values: "torch.Tensor") -> str:
    """SHA-256 of a tensor's values, dtype and shape, in hex."""
    shape = f"{values.dtype} {tuple(values.shape)} "
    return hashlib.sha256(shape.encode() + array_of(values).tobytes()).hexdigest()


def array_of(values: "torch.Tensor") -> np.ndarray:
    """A tensor as an array, exactly; narrow formats become float32, because NumPy has no bfloat16."""
    import torch

    exact = torch.promote_types(values.dtype, torch.float32) if values.is_floating_point() else values.dtype
    return values.detach().to(exact).cpu().numpy()
