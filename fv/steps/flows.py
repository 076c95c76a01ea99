"""The flow of each step and analysis of a run, made anew: what a worker computes units of."""

from collections.abc import Callable, Mapping
from typing import Any

from fv.analyses import analyses_of
from fv.analyses.running.analysed_run import AnalysedRun
from fv.analyses.running.runner import analysis_flow, store_of
from fv.config import Config
from fv.data.snapshot import read_snapshot
from fv.runs.engine import with_rows_of
from fv.runs.metadata import finished_stepd
from fv.runs.paths import RunPaths
from fv.runs.records import read_meta
from fv.runs.results import StepdResults
from fv.runs.units import unit_store
from fv.steps import stepd, stepe
from fv.steps.holder import ModelHolder
from fv.steps.injections import Injections
from fv.work.driver import Replay


def replayed(title: str, about: Any, config: Config, models: ModelHolder) -> Replay:
    """The flow of a step or an analysis, from its beginning.

    Args:
        title: `StepD`, `StepE`, `Step6`, or the name of an analysis.
        about: of an analysis of a Step6 that is at work, {file: SHA-256} of what that has written.
        config: the settings of the run.
        models: gives the model.
    """
    return STEPS[title](config, models) if title in STEPS else _analysis(title, about, config, models)


def _stepd(config: Config, models: ModelHolder) -> Replay:
    paths = RunPaths.of(config)
    config, lm = with_rows_of(config, read_meta(paths.stepd_meta)), models.of(config)
    store = unit_store(config, lm)
    return Replay(stepd.flow_of(config, lm, read_snapshot(paths.snapshot), store), store)


def _stepe(config: Config, models: ModelHolder) -> Replay:
    paths, lm = RunPaths.of(config), models.of(config)
    meta = finished_stepd(paths, config)
    config, found = with_rows_of(config, meta), StepdResults.read(paths, meta)
    store = unit_store(config, lm)
    return Replay(stepe.flow_of(config, lm, found, store), store)


def _step6(config: Config, models: ModelHolder) -> Replay:
    paths = RunPaths.of(config)
    meta = finished_stepd(paths, config)
    injections = Injections.of(with_rows_of(config, meta), paths, models.of(config), meta)
    return Replay(injections.flow(), injections.store)


def _analysis(name: str, written: Any, config: Config, models: ModelHolder) -> Replay:
    paths = RunPaths.of(config)
    settings = with_rows_of(config, finished_stepd(paths, config))
    run = AnalysedRun(paths, settings, lambda: models.of(settings), written)
    return Replay(analysis_flow(name, analyses_of(config.analysis)[name], run), store_of(run))


STEPS: Mapping[str, Callable[[Config, ModelHolder], Replay]] = {"StepD": _stepd, "StepE": _stepe, "Step6": _step6}
