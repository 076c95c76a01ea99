"""The flow of each step and analysis of a run, made anew: what a worker computes units of."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from fv.analyses import analyses_of
from fv.analyses.running.runner import analysis_flow
from fv.config import Config
from fv.data.snapshot import read_snapshot
from fv.runs.completeness import finished_stepd
from fv.runs.engine import with_rows_of
from fv.runs.live_run import LiveRun
from fv.runs.paths import RunPaths
from fv.runs.records import Hashes, StepDRecord, read_record
from fv.runs.units import unit_store
from fv.steps import stepd
from fv.steps.holder import ModelHolder
from fv.steps.step6 import injections_flow
from fv.steps.stepe import quick_flow
from fv.work.driver import Replay
from fv.work.flow import Flow


def replayed(title: str, written: Hashes | None, config: Config, models: ModelHolder) -> Replay:
    """The flow of a step or an analysis, from its beginning.

    Args:
        title: `StepD`, `StepE`, `Step6`, or the name of an analysis.
        written: {file: SHA-256} of what a Step6 has written that is at work, for an analysis of it.
        config: the settings of the run.
        models: gives the model.
    """
    if title == "StepD":
        return _stepd(config, models)
    finished_stepd(config)
    run = LiveRun.of(config, models.of)
    if title in FLOWS:
        return Replay(FLOWS[title](run), run.units())
    run = replace(run, unfinished=written)
    return Replay(analysis_flow(title, analyses_of(config.analysis)[title], run), run.units())


FLOWS: Mapping[str, Callable[[LiveRun], Flow[object]]] = {"StepE": quick_flow, "Step6": injections_flow}
"""The flows of steps that continue a run."""


def _stepd(config: Config, models: ModelHolder) -> Replay:
    paths = RunPaths.of(config)
    record = read_record(paths.stepd_meta, StepDRecord)
    config, lm = with_rows_of(config, record), models.of(config)
    store = unit_store(paths, record, config)
    return Replay(stepd.flow_of(config, lm, read_snapshot(paths.snapshot), store), store)
