"""The engine that a run's settings name, and the size of its passes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fv.cluster import Cluster
from fv.config import ComputeConfig, Config
from fv.config.checks import AUTO
from fv.interventions.engines import make_engine
from fv.interventions.halving import HalvingEngine
from fv.interventions.memory import rows_that_fit
from fv.models.language_model import LanguageModel
from fv.runs.units import MEMORY_RAN_OUT
from fv.work.store import NO_UNITS, UnitStore

ROWS = "compute.max_rows"


def engine_of(config: Config, lm: LanguageModel, units: UnitStore = NO_UNITS) -> HalvingEngine:
    """The engine of `config.compute` for a model.

    Args:
        config: the settings.
        lm: the model.
        units: where its numbers are kept, each with what it was computed with: that memory ran out, too.

    Raises:
        ConfigError: it was asked of a family whose spec does not allow it.
    """
    compute = config.compute
    engine = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
    asked = engine.max_rows
    engine.when_halved = lambda rows: units.note({ROWS: rows, MEMORY_RAN_OUT: asked})
    return engine


def with_rows_of(config: Config, meta: Mapping[str, Any]) -> Config:
    """Settings that leave the size of passes to the machine, with that of the run whose metadata it is.

    So a run has one size, whichever step and process goes on with it, and the batches and units that this makes.
    """
    if config.compute.max_rows != AUTO:
        return config
    return with_rows(config, meta["compute"].get(ROWS, ComputeConfig.max_rows))


def with_rows_for(config: Config, lm: LanguageModel) -> Config:
    """The same for a run that begins: as many rows as fit the memory that is free beside the model.

    Workers that share a device share its memory.
    """
    if config.compute.max_rows != AUTO:
        return config
    sharing = config.cluster.sharing(config.compute.device) if isinstance(config.cluster, Cluster) else 1
    return with_rows(config, max(2, rows_that_fit(lm) // sharing))


def with_rows(config: Config, rows: int) -> Config:
    """Settings with passes of this size."""
    return replace(config, compute=replace(config.compute, max_rows=rows))
