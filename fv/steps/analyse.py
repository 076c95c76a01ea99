"""Analyses of a finished run, under the settings that its own record says."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fv.analyses import Analysis, analyses_of, known_analyses
from fv.analyses.running.analysed_run import AnalysedRun
from fv.analyses.running.runner import run_analysis
from fv.config import Config
from fv.errors import ArtifactError, ConfigError, one_of
from fv.files import reading
from fv.runs.commands import command
from fv.runs.engine import with_rows_of
from fv.runs.identity import MACHINE, SOURCE, flat
from fv.runs.locks import run_lock
from fv.runs.metadata import refuse_difference, start_job
from fv.runs.paths import FV_META, RunPaths
from fv.runs.records import read_meta
from fv.runs.step6_files import META
from fv.runs.sweep_cells import config_of
from fv.steps.advice import with_settings
from fv.steps.holder import ModelHolder
from fv.work.driver import SERIAL, Driver

OWN = ("analysis", "cluster", "run_id", "results_dir", "tag", "overwrite", "runs", "out", "report", "hydra")
"""Settings of the analyses themselves, and those that say which run is meant and how runs are shown."""
FREE = (*MACHINE, *SOURCE, "model.name", "compute.selfcheck", "compute.strict", "compute.unit_trials")
"""Settings that may be others than the run's: where the same model is, and what this machine computes with."""


@with_settings()
def run_analyse(
    config: Config, models: ModelHolder | None = None, given: Iterable[str] = (), driver: Driver = SERIAL
) -> Path:
    """Run the analyses that are named on a finished run; nothing else of the run is written.

    Args:
        config: the configuration: which run, which analyses.
        models: gives the model, if one is needed; None loads it for this alone.
        given: the keys of the settings that were given, and not left at their defaults.
        driver: has the units computed.

    Returns:
        the folder of the run's analyses.

    Raises:
        ConfigError: no analysis is named, or one cannot be made as it is set.
        ArtifactError: a step that one reads has not finished, or a setting was given that is not the run's.
        FvError: as the analyses do.
    """
    paths, models = RunPaths.of(config), models or ModelHolder()
    with run_lock(paths.root, shared=True):
        for name, analysis, settings in asked_analyses(config, given):
            start_job(settings)
            run_analysis(name, analysis, AnalysedRun(paths, settings, partial(models.of, settings)), driver)
    return paths.analyses


def asked_analyses(config: Config, given: Iterable[str]) -> list[tuple[str, Analysis, Config]]:
    """The analyses that are named, each with its name and the settings that its run was made with.

    Raises:
        FvError: none is named, a value is not possible, a step has not finished, or a setting is not the run's.
    """
    analyses, paths = analyses_of(config.analysis), RunPaths.of(config)
    if not analyses:
        raise ConfigError(f"Name the analyses, like 'analysis=[{','.join(known_analyses())}]'.")
    settings = {name: _settings(paths, analysis.after, config, given) for name, analysis in analyses.items()}
    for analysis in analyses.values():
        analysis.check()
    return [(name, analysis, settings[name]) for name, analysis in analyses.items()]


def _settings(paths: RunPaths, step: str, config: Config, given: Iterable[str]) -> Config:
    """The settings of a step as its record says, with those of `config` that are no part of what the run is."""
    meta = _finished(paths, step)
    with reading(paths.root):
        recorded = config_of(meta)
    there, here = flat(recorded.resolved()), flat(config.resolved())
    asked: dict[str, Any] = {}
    for key in given:
        below = {one: value for one, value in here.items() if one == key or one.startswith(f"{key}.")}
        if not below and key.partition(".")[0] not in OWN:
            raise ConfigError(f"{key} says how a run is made; name the run that is there: run_id=<run_id>.")
        asked |= below
    fixed = {key: value for key, value in asked.items() if key.partition(".")[0] not in OWN and key not in FREE}
    remedy = "An analysis is of the run as it was made: leave these settings out."
    refuse_difference({key: there.get(key) for key in fixed}, fixed, f"The run in {paths.root}", remedy)
    own: dict[str, Any] = {
        key: getattr(config, key) for key in ("analysis", "run_id", "results_dir", "tag", "overwrite", "cluster")
    }
    own |= {group: _with(recorded, config, group, asked) for group in ("model", "compute")}
    return with_rows_of(replace(recorded, **own), read_meta(paths.stepd_meta))


def _with(recorded: Config, config: Config, group: str, asked: Mapping[str, Any]) -> Any:
    """A group of the recorded settings, with those of the asked ones that may be others."""
    free = [key.partition(".")[2] for key in FREE if key.startswith(f"{group}.") and key in asked]
    return replace(getattr(recorded, group), **{name: getattr(getattr(config, group), name) for name in free})


def _finished(paths: RunPaths, step: str) -> dict[str, Any]:
    """The metadata of a step that has finished, as all before it have.

    Raises:
        ArtifactError: naming the one that has not.
        ConfigError: there is no such step.
    """
    metas = {"StepD": paths.stepd_meta, "StepE": paths.stepe_to_read / FV_META, "Step6": paths.step6 / META}
    one_of("An analysis' after", step, metas)
    meta: dict[str, Any] = {}
    for name, path in metas.items():
        meta = read_meta(path) if path.exists() else {"status": "missing"}
        if meta["status"] != "ok":
            raise ArtifactError(
                f"{name} in {path.parent} has not finished, and the analysis reads what it writes. Let it: "
                + command(name.lower(), f"run_id={paths.root.name} (with the run's other settings)")
            )
        if name == step:
            break
    return meta
