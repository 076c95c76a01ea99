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
    """Make the engine that the settings name.

    Args:
        compute: the settings.
        lm: the model.
        units: the store of its results; it records when passes were made smaller.

    Raises:
        ConfigError: the spec of the model's family does not allow this engine.
    """
    engine = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
    most = engine.max_rows
    engine.when_halved = lambda rows: units.note({ROWS: rows, MEMORY_RAN_OUT: most})
    return engine


def with_rows_of(compute: ComputeConfig, record: StepDRecord) -> ComputeConfig:
    """Replace `max_rows=auto` by the value recorded in the run.

    So all steps and processes that continue a run make passes and batches of the same size.
    """
    return replace(compute, max_rows=int(str(record.compute[ROWS]))) if compute.max_rows == AUTO else compute


def with_rows_for(compute: ComputeConfig, lm: LanguageModel, cluster: ClusterConfig) -> ComputeConfig:
    """Replace `max_rows=auto` by the number of rows that fit into the memory that the model leaves free.

    Workers of a cluster that share a device share its memory.
    """
    if compute.max_rows != AUTO:
        return compute
    sharing = cluster.sharing(compute.device) if isinstance(cluster, Cluster) else 1
    return replace(compute, max_rows=max(2, rows_that_fit(lm) // sharing))
