"""Flows of a run's steps and analyses, replayed by workers to compute their units."""

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
from fv.steps.model_holder import ModelHolder
from fv.steps.step6 import injections_flow
from fv.steps.stepd import StepDDue, flow_of
from fv.steps.stepe import quick_flow
from fv.work.driver import Replay
from fv.work.flow import Flow


def replayed(title: str, written: Hashes | None, config: Config, models: ModelHolder) -> Replay:
    """Replay the flow of a step or an analysis from its beginning.

    Args:
        title: `StepD`, `StepE`, `Step6`, or the name of an analysis.
        written: {file: SHA-256} of the files that an unfinished Step6 has written, for an analysis of it.
        config: the settings of the run.
        models: loads the model.
    """
    if title == "StepD":
        paths = RunPaths.of(config)
        record = read_record(paths.stepd_meta, StepDRecord)
        config = replace(config, compute=with_rows_of(config.compute, record))
        store = unit_store(paths, record, config.model, config.compute, config.forgets_units)
        due = StepDDue(config, models.of(config), read_snapshot(paths.snapshot))
        return Replay(flow_of(due, store), store)
    run = LiveRun.of(config, models.of, record=finished_stepd(config))
    if title in FLOWS:
        return Replay(FLOWS[title](run), run.units())
    run = replace(run, unfinished=written)
    return Replay(analysis_flow(title, analyses_of(config.analysis)[title], run), run.units())


FLOWS: Mapping[str, Callable[[LiveRun], Flow[object]]] = {"StepE": quick_flow, "Step6": injections_flow}
"""{step that continues a run: its flow}."""
