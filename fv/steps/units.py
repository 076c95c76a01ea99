"""Units: finished pieces of a step under the digest of all they depend on (spec sections 4 and 7).

A unit that is there need not be computed again: after a kill, when a run grows, for another tag. All can be made
again, so `python -m entrypoints.clean` may throw them away.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fv.artifacts import digest_of, safe_name, write_npz
from fv.config import Config
from fv.engine import ENGINE_REVISION
from fv.identity import weights_of
from fv.models.language_model import LanguageModel
from fv.run import machine_settings
from fv.sweep import TargetScores

Arrays = dict[str, np.ndarray]
UNIT_SCHEMA = 5
"""Part of a unit's key: units of an older layout are computed again."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnitStore:
    """A folder of units, each a file of arrays under the digest of what it was made from.

    Attributes:
        folder: where they are; None keeps nothing.
        made_with: what all of them depend on: a JSON value.
        machine: what this process computes with (`fv.run.machine_settings`): kept in every unit, and no part of its
            key.
        fresh: whether only units that this store keeps itself are found (`overwrite=true`).
        machines: those of all units that were found or kept so far, each once.
    """

    folder: Path | None
    made_with: Any
    machine: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False
    machines: list[dict[str, Any]] = field(default_factory=list)
    _kept: set[Path] = field(default_factory=set, repr=False)

    @classmethod
    def of(cls, folder: Path, config: Config, lm: LanguageModel) -> "UnitStore":
        """The units of a model's runs: weights, precision and engine are what all of them depend on."""
        quant = config.model.quant.value
        made_with = [UNIT_SCHEMA, ENGINE_REVISION, weights_of(lm.fingerprint), str(lm.dtype), quant, lm.spec.name]
        return cls(folder, made_with, machine_settings(config), config.overwrite)

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

    def disk_use(self, run_id: str) -> str:
        """A line on what all units in the folder take, and how to be rid of them."""
        files = list(self.folder.glob("*.npz")) if self.folder else []
        size = sum(path.stat().st_size for path in files) / 1e6
        return (
            f"{len(files)} units ({size:.1f} MB) are kept in {self.folder} for the run to grow from; "
            f"python -m entrypoints.clean run_id={run_id} throws them away."
        )

    def _saw(self, machine: dict[str, Any]) -> None:
        if machine not in self.machines:
            self.machines.append(machine)

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


def arrays_of_scores(scores: Mapping[str, TargetScores]) -> Arrays:
    """Named scores as arrays."""
    return {
        f"{name}_{part}": getattr(own, part).numpy() for name, own in scores.items() for part in ("logprob", "rank")
    }


def scores_of_arrays(arrays: Arrays) -> dict[str, TargetScores]:
    """The scores that `arrays_of_scores` took apart."""
    names = [key.removesuffix("_rank") for key in arrays if key.endswith("_rank")]
    parts = {name: (arrays[f"{name}_logprob"], arrays[f"{name}_rank"]) for name in names}
    return {name: TargetScores(*map(torch.from_numpy, own)) for name, own in parts.items()}
