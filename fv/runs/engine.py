"""The engine of a run, and the size of its passes."""

from dataclasses import replace

from fv.cluster import Cluster
from fv.config import ClusterConfig, ComputeConfig
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


def with_rows_of(compute: ComputeConfig, record: StepDRecord) -> ComputeConfig:
    """Replaces `max_rows=auto` by the value recorded in the run.

    So a run has one size of passes, whichever step and process continues it, and the batches that follow from it.
    """
    return replace(compute, max_rows=int(str(record.compute[ROWS]))) if compute.max_rows == AUTO else compute


def with_rows_for(compute: ComputeConfig, lm: LanguageModel, cluster: ClusterConfig) -> ComputeConfig:
    """Replaces `max_rows=auto` by as many rows as fit the memory that is free beside the model.

    Workers of a cluster that share a device share its memory.
    """
    if compute.max_rows != AUTO:
        return compute
    sharing = cluster.sharing(compute.device) if isinstance(cluster, Cluster) else 1
    return replace(compute, max_rows=max(2, rows_that_fit(lm) // sharing))
