"""The engine of a run, and the size of its passes."""

from dataclasses import replace

from fv.cluster import Cluster
from fv.config import ComputeConfig, Config
from fv.config.checks import AUTO
from fv.interventions.engines import make_engine
from fv.interventions.halving import HalvingEngine
from fv.interventions.memory import rows_that_fit
from fv.models.language_model import LanguageModel
from fv.runs.records import StepDRecord
from fv.runs.units import MEMORY_RAN_OUT
from fv.work.store import UnitStore

ROWS = "compute.max_rows"


def engine_of(compute: ComputeConfig, lm: LanguageModel, units: UnitStore) -> HalvingEngine:
    """The engine that the settings name.

    Args:
        compute: the settings.
        lm: the model.
        units: where its numbers are kept, each with what it was computed with, smaller passes included.

    Raises:
        ConfigError: the spec of the model's family does not allow it.
    """
    engine = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
    most = engine.max_rows
    engine.when_halved = lambda rows: units.note({ROWS: rows, MEMORY_RAN_OUT: most})
    return engine


def with_rows_of(config: Config, record: StepDRecord) -> Config:
    """Replaces `compute.max_rows=auto` by the value recorded in the run.

    So a run has one size of passes, whichever step and process continues it, and the batches that follow from it.
    """
    return _with_rows(config, int(str(record.compute[ROWS]))) if config.compute.max_rows == AUTO else config


def with_rows_for(config: Config, lm: LanguageModel) -> Config:
    """Replaces `compute.max_rows=auto` by as many rows as fit the memory that is free beside the model.

    Workers that share a device share its memory.
    """
    if config.compute.max_rows != AUTO:
        return config
    sharing = config.cluster.sharing(config.compute.device) if isinstance(config.cluster, Cluster) else 1
    return _with_rows(config, max(2, rows_that_fit(lm) // sharing))


def _with_rows(config: Config, rows: int) -> Config:
    return replace(config, compute=replace(config.compute, max_rows=rows))
