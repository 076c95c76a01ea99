"""Store of a run's units (docs/engine.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

from fv.config import ComputeConfig, ModelConfig
from fv.files import remove_leftovers
from fv.interventions.engines import ENGINE_REVISION
from fv.models.language_model import weights_of
from fv.runs.commands import command
from fv.runs.machine import machine_settings
from fv.runs.paths import RunPaths
from fv.runs.records import StepDRecord
from fv.work.store import UnitStore

UNIT_SCHEMA = 8
"""Version of the units' layout, a part of their keys: units of an older layout are computed again."""
MEMORY_RAN_OUT = "memory_ran_out_at"
"""Key of a unit whose passes were made smaller; its value is the requested number of token rows."""


def unit_store(
    paths: RunPaths, record: StepDRecord, model: ModelConfig, compute: ComputeConfig, fresh: bool
) -> UnitStore:
    """Open the store of a run's units. Units depend on the weights, the precision, the spec and the engine's revision.

    Args:
        paths: the paths of the run.
        record: StepD's record.
        model: the settings of the model that continues the run.
        compute: the settings of the machine that continues the run.
        fresh: True if only units that this process makes are found.
    """
    remove_leftovers(paths.units)
    quant = model.quant.value
    precision = f"{compute.dtype.value}, products in tf32" if compute.tf32 else compute.dtype.value
    made_with = [UNIT_SCHEMA, ENGINE_REVISION, weights_of(record.model), precision, quant, record.spec.name]
    return UnitStore(paths.units, made_with, machine_settings(compute, model), fresh)


def memory_warnings(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warn in one sentence if memory ran out and units were computed in smaller passes than requested.

    Args:
        machines: the machines of the units (`UnitStore.machines`).

    Returns:
        the sentence in a list; an empty list if memory did not run out.
    """
    smaller = [machine for machine in machines if MEMORY_RAN_OUT in machine]
    if not smaller:
        return []
    asked = max(machine[MEMORY_RAN_OUT] for machine in smaller)
    fewest = min(machine["compute.max_rows"] for machine in smaller)
    return [
        f"Memory ran out, and some passes were made smaller: {fewest} token rows and not {asked}. Numbers agree to "
        "1e-5, but not to the byte."
    ]


def disk_use(units: UnitStore, run_id: str) -> str:
    """Line on the disk use of all units of a run, and on the command that deletes them."""
    files = list(units.folder.glob("*.npz")) if units.folder else []
    size = sum(path.stat().st_size for path in files) / 1e6
    return (
        f"{len(files)} units ({size:.1f} MB) are kept in {units.folder} for the run to grow from; "
        f"{command('clean', f'run_id={run_id}')} deletes them."
    )
