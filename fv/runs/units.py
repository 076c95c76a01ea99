"""Where a run keeps its units, and what all of them depend on (docs/engine.md)."""

from collections.abc import Mapping
from typing import Any

from fv.config import Config
from fv.files import remove_leftovers
from fv.interventions.engines import ENGINE_REVISION
from fv.models.language_model import LanguageModel, weights_of
from fv.runs.commands import command
from fv.runs.metadata import machine_settings
from fv.runs.paths import RunPaths
from fv.units import UnitStore

UNIT_SCHEMA = 5
"""Part of a unit's key: units of an older layout are computed again."""


def units_of_run(paths: RunPaths, meta: Mapping[str, Any], config: Config) -> UnitStore:
    """The units of what is made of a run's results, for which no model may be loaded.

    Args:
        paths: the run's.
        meta: StepD's metadata, which says what the model is.
        config: the run's settings.
    """
    remove_leftovers(paths.units)
    compute, quant = config.compute.dtype.value, config.model.quant.value
    made_with = [UNIT_SCHEMA, ENGINE_REVISION, weights_of(meta["model"]), compute, quant, meta["spec"]["name"]]
    return UnitStore(paths.units, made_with, machine_settings(config), _only_own(config))


def unit_store(config: Config, lm: LanguageModel) -> UnitStore:
    """The units of a run: weights, precision and engine are what all of them depend on.

    With `overwrite=true` only those are found that the process at hand makes.
    """
    folder, quant = RunPaths.of(config).units, config.model.quant.value
    remove_leftovers(folder)
    made_with = [UNIT_SCHEMA, ENGINE_REVISION, weights_of(lm.fingerprint), str(lm.dtype), quant, lm.spec.name]
    return UnitStore(folder, made_with, machine_settings(config), _only_own(config))


def _only_own(config: Config) -> bool:
    """Whether units that other processes made do not count; those of a cluster's workers do."""
    return config.overwrite and not config.cluster.elsewhere


def disk_use(units: UnitStore, run_id: str) -> str:
    """A line on what all units in a folder take, and how to be rid of them."""
    files = list(units.folder.glob("*.npz")) if units.folder else []
    size = sum(path.stat().st_size for path in files) / 1e6
    return (
        f"{len(files)} units ({size:.1f} MB) are kept in {units.folder} for the run to grow from; "
        f"{command('clean', f'run_id={run_id}')} throws them away."
    )
