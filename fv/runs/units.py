"""Where a run keeps its units, and what all of them depend on (docs/engine.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

from fv.config import Config
from fv.files import remove_leftovers
from fv.interventions.engines import ENGINE_REVISION
from fv.models.language_model import LanguageModel, weights_of
from fv.runs.commands import command
from fv.runs.metadata import machine_settings
from fv.runs.paths import RunPaths
from fv.work.store import UnitStore

UNIT_SCHEMA = 7
"""Part of a unit's key: units of an older layout are computed again."""
MEMORY_RAN_OUT = "memory_ran_out_at"
"""Where a unit says that its passes were made smaller: {this: the token rows that were asked for}."""


def units_of_run(paths: RunPaths, meta: Mapping[str, Any], config: Config) -> UnitStore:
    """The units of what is made of a run's results, for which no model may be loaded.

    Args:
        paths: the run's.
        meta: StepD's metadata, which says what the model is.
        config: the run's settings.
    """
    remove_leftovers(paths.units)
    precision, quant = _precision(config, config.compute.dtype.value), config.model.quant.value
    made_with = [UNIT_SCHEMA, ENGINE_REVISION, weights_of(meta["model"]), precision, quant, meta["spec"]["name"]]
    return UnitStore(paths.units, made_with, machine_settings(config), _only_own(config))


def unit_store(config: Config, lm: LanguageModel) -> UnitStore:
    """The units of a run: weights, precision and engine are what all of them depend on.

    With `overwrite=true` only those are found that the process at hand makes.
    """
    folder, quant = RunPaths.of(config).units, config.model.quant.value
    remove_leftovers(folder)
    precision = _precision(config, str(lm.dtype))
    made_with = [UNIT_SCHEMA, ENGINE_REVISION, weights_of(lm.fingerprint), precision, quant, lm.spec.name]
    return UnitStore(folder, made_with, machine_settings(config), _only_own(config))


def _only_own(config: Config) -> bool:
    """Whether units that other processes made do not count; those of a cluster's workers do."""
    return config.overwrite and not config.cluster.elsewhere


def memory_warnings(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence if units were computed in smaller passes than asked for, because memory ran out; else none.

    Args:
        machines: what units were computed with: `UnitStore.machines`.
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


def _precision(config: Config, dtype: str) -> str:
    """The number format, and how its products are made where that is not as it says."""
    return f"{dtype}, products in tf32" if config.compute.tf32 else dtype


def disk_use(units: UnitStore, run_id: str) -> str:
    """A line on what all units in a folder take, and how to be rid of them."""
    files = list(units.folder.glob("*.npz")) if units.folder else []
    size = sum(path.stat().st_size for path in files) / 1e6
    return (
        f"{len(files)} units ({size:.1f} MB) are kept in {units.folder} for the run to grow from; "
        f"{command('clean', f'run_id={run_id}')} throws them away."
    )
