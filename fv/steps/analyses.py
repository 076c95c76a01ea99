"""Analyses of a run: those that a step runs by itself, and those that a command runs on a finished run."""

import logging
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

from fv.analyses import Analysis, analyses_of, known_analyses
from fv.analyses.running.inputs import lacking
from fv.analyses.running.runner import run_analysis
from fv.config import ComputeConfig, Config, ModelConfig
from fv.config.group import Settings
from fv.errors import ArtifactError, ConfigError, one_of
from fv.files import JsonObject
from fv.runs.commands import command
from fv.runs.engine import with_rows_of
from fv.runs.identity import MACHINE, SOURCE, flat
from fv.runs.live_run import LiveRun
from fv.runs.locks import run_lock
from fv.runs.machine import start_job
from fv.runs.paths import FV_META, RunPaths
from fv.runs.records import Step6Record, StepDRecord, StepERecord, StepRecord, read_record
from fv.runs.refusals import refuse_difference
from fv.runs.step6_files import META
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies
from fv.work.driver import SERIAL, Driver

OWN = ("analysis", "cluster", "run_id", "results_dir", "tag", "overwrite", "runs", "out", "report", "hydra")
"""Settings of the analyses, settings that name the run, and settings of how runs are shown."""
FREE = (*MACHINE, *SOURCE, "model.name", "compute.selfcheck", "compute.strict", "compute.unit_trials")
"""Settings that may differ from the run's: the source of the same model, and the settings of this machine."""
log = logging.getLogger(__name__)


def analyse_after(step: str, run: LiveRun) -> JsonObject:
    """Run the analyses of a step; leave out and log an analysis whose inputs the run does not have.

    Args:
        step: `StepD`, `StepE` or `Step6`.
        run: the run.

    Returns:
        {key in the summary: the analysis's summary}.

    Raises:
        FvError: as the analyses do.
    """
    summaries = {}
    for name, analysis in analyses_of(run.settings.analysis).items():
        if analysis.after != step:
            continue
        if missing := lacking(run, analysis.reads):
            log.info("The analysis %s is left out: there is no %s.", name, ", ".join(missing))
            continue
        summaries[analysis.summary_key or name] = run_analysis(name, analysis, run)
    return summaries


@with_remedies()
def run_analyse(
    config: Config, models: ModelHolder | None = None, given: Iterable[str] = (), driver: Driver = SERIAL
) -> Path:
    """Run the named analyses on a finished run; the other files of the run stay unchanged.

    Args:
        config: the configuration, which names the run and the analyses.
        models: loads the model, if it is needed; None loads it for this call only.
        given: the keys of the settings that the user gave.
        driver: computes the units, or lets workers compute them.

    Returns:
        the folder of the run's analyses.

    Raises:
        ConfigError: no analysis is named, or the settings of one are not possible.
        ArtifactError: a step that an analysis reads has not finished, or a given setting differs from the run's.
        FvError: as the analyses do.
    """
    paths, models = RunPaths.of(config), models or ModelHolder()
    with run_lock(paths.root, shared=True):
        for name, analysis, settings in requested_analyses(config, given):
            start_job(settings.seed, settings.compute)
            run_analysis(name, analysis, LiveRun(paths, settings, partial(models.of, settings), driver))
    return paths.analyses


def requested_analyses(config: Config, given: Iterable[str]) -> list[tuple[str, Analysis, Config]]:
    """Build the named analyses, each with its name and the recorded settings of its run.

    Raises:
        FvError: none is named, a value is not possible, a step has not finished, or a setting differs from the run's.
    """
    analyses, paths = analyses_of(config.analysis), RunPaths.of(config)
    if not analyses:
        raise ConfigError(f"Name the analyses, like 'analysis=[{','.join(known_analyses())}]'.")
    requested = _values_of(given, flat(config.resolved()))
    own = {key: getattr(config, key) for key in ("analysis", "run_id", "results_dir", "tag", "overwrite", "cluster")}
    found = []
    for name, analysis in analyses.items():
        recorded = _recorded(paths, analysis.after, requested, config.model, config.compute)
        found.append((name, analysis, replace(recorded, **own)))
    for analysis in analyses.values():
        analysis.check()
    return found


def _values_of(given: Iterable[str], here: Settings) -> Settings:
    """The values of the given settings, by their dotted keys.

    Raises:
        ConfigError: a key says how a run is made, and is none of its settings.
    """
    requested: Settings = {}
    for key in given:
        below = {one: value for one, value in here.items() if one == key or one.startswith(f"{key}.")}
        if not below and key.partition(".")[0] not in OWN:
            raise ConfigError(f"{key} says how a run is made; name the run that is there: run_id=<run_id>.")
        requested |= below
    return requested


def _recorded(paths: RunPaths, step: str, requested: Settings, model: ModelConfig, compute: ComputeConfig) -> Config:
    """A step's recorded settings, with the requested settings of `model` and `compute` that do not decide results.

    Raises:
        ArtifactError: the step has not finished, or another requested setting differs from the recorded one.
    """
    recorded = _finished(paths, step).config
    there = flat(recorded.resolved())
    fixed = {key: value for key, value in requested.items() if key.partition(".")[0] not in OWN and key not in FREE}
    remedy = "An analysis is of the run as it was made: leave these settings out."
    refuse_difference({key: there.get(key) for key in fixed}, fixed, f"The run in {paths.root}", remedy)
    free = [key.partition(".")[::2] for key in FREE if key in requested]
    machine = replace(recorded.compute, **{name: getattr(compute, name) for group, name in free if group == "compute"})
    source = replace(recorded.model, **{name: getattr(model, name) for group, name in free if group == "model"})
    return replace(recorded, model=source, compute=with_rows_of(machine, read_record(paths.stepd_meta, StepDRecord)))


def _finished(paths: RunPaths, step: str) -> StepRecord:
    """Read the record of a finished step; all steps before it must have finished, too.

    Raises:
        ArtifactError: a step has not finished; the message names it.
        ConfigError: there is no such step.
    """
    steps: dict[str, tuple[Path, type[StepRecord]]] = {
        "StepD": (paths.stepd_meta, StepDRecord),
        "StepE": (paths.stepe_to_read / FV_META, StepERecord),
        "Step6": (paths.step6 / META, Step6Record),
    }
    one_of("An analysis' after", step, steps)
    records: dict[str, StepRecord] = {}
    for name, (path, kind) in steps.items():
        if step in records:
            break
        record = read_record(path, kind) if path.exists() else None
        if record is None or not record.is_finished:
            raise ArtifactError(
                f"{name} in {path.parent} has not finished, and the analysis reads what it writes. Let it: "
                + command(name.lower(), f"run_id={paths.root.name} (with the run's other settings)")
            )
        records[name] = record
    return records[step]
