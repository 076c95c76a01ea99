"""StepD: relation CSV -> trials -> clean means -> CIE of every head for every relation -> AIE (spec section 2).

Each block of a relation's trials is a unit, written when done: the same command, given again after a kill, goes on with
the units that are missing and ends with the same bytes.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from fv.config import Config
from fv.data.relations import Relations
from fv.data.sampling import log_warnings, replay_snapshot, sample_snapshot
from fv.data.snapshot import Snapshot, write_snapshot
from fv.heads.effects import Effects
from fv.heads.measurement import UNIT_TRIALS, Measurement
from fv.heads.ranking import heads_to_sweep
from fv.heads.relations import effects_flow
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import special_tokens_warning, used_tokens
from fv.runs.completeness import content_of, has_stepd, relations_asked, stepd_made_with, trials_there
from fv.runs.engine import engine_of, with_rows_for, with_rows_of
from fv.runs.locks import run_lock
from fv.runs.logs import log_to_file
from fv.runs.metadata import (
    clear_run,
    finished,
    forget_pages,
    refuse_other_model,
    refuse_other_trials,
    start_job,
    step_meta,
)
from fv.runs.outputs import Outputs
from fv.runs.paths import RunPaths, refuse_links, refuse_one_file
from fv.runs.records import read_meta, write_meta
from fv.runs.screen_files import write_screen
from fv.runs.stepd_files import write_effects, write_means
from fv.runs.units import disk_use, memory_warnings, unit_store
from fv.steps.advice import with_settings
from fv.steps.analyses import analyse_after
from fv.steps.holder import ModelHolder
from fv.work.driver import SERIAL, Driver
from fv.work.flow import Flow
from fv.work.store import UnitStore

log = logging.getLogger(__name__)


@with_settings()
def run_stepd(config: Config, models: ModelHolder | None = None, driver: Driver = SERIAL) -> Path:
    """Run StepD, or what is missing of it.

    Args:
        config: the configuration.
        models: gives the model, if one is needed; None loads it for this step alone.
        driver: has the units computed.

    Returns:
        the run's folder.

    Raises:
        FvError: any row of spec section 7 that concerns inputs, model or run directory.
    """
    models = models or ModelHolder()
    _made(config, models, driver)
    # StepD has no tag, and so have its analyses.
    paths = replace(RunPaths.of(config), tag=None)
    analyse_after("StepD", config, paths, lambda: models.of(config), driver=driver)
    return RunPaths.of(config).root


def _made(config: Config, models: ModelHolder, driver: Driver) -> None:
    start_job(config)
    paths = RunPaths.of(config)
    refuse_links(paths.root)
    file = relations_asked(config)
    made_with = stepd_made_with(config, file)
    seen = content_of(paths.stepd_meta)
    if not config.overwrite and has_stepd(paths, config, made_with):
        log.info("StepD in %s is complete already.", paths.root)
        return
    lm = models.of(config)
    snapshot = trials_asked(config, lm, file)
    heads_of(config, lm)
    with run_lock(paths.root):
        refuse_one_file(paths.root, snapshot.qids)
        # Another process may have done it while this one loaded its model.
        if content_of(paths.stepd_meta) != seen and not config.overwrite and has_stepd(paths, config, made_with):
            log.info("StepD in %s was completed by another process.", paths.root)
            return
        if config.overwrite:
            clear_run(paths)
        elif there := trials_there(paths):
            refuse_other_trials(there, snapshot, paths)
        with log_to_file(paths.logs / "stepD_aie.log"):
            _run(config, lm, snapshot, made_with, file, driver)


def trials_asked(config: Config, lm: LanguageModel, file: Relations | None) -> Snapshot:
    """The trials that a configuration asks for: sampled from a file's relations, or replayed where there is none.

    Raises:
        TrialError: they cannot be sampled or replayed.
    """
    if file is None:
        return replay_snapshot(Path(str(config.data.fixed_trials_path)), config.data.qids, lm)
    special, name = config.model.add_special_tokens, config.model.called("add_special_tokens")
    return sample_snapshot(file, config.data, config.seed, lm, special, name)


def heads_of(config: Config, lm: LanguageModel) -> list[Head]:
    """The heads that a configuration sweeps.

    Raises:
        ConfigError: the model has no such layer or head.
    """
    return heads_to_sweep(config.score.layers, config.score.heads, lm.n_layers, lm.n_heads, config.score.called)


def flow_of(config: Config, lm: LanguageModel, snapshot: Snapshot, store: UnitStore) -> Flow[Effects]:
    """Measures the heads of a configuration on the trials of its run.

    Args:
        config: the configuration, with the size of passes.
        lm: the model.
        snapshot: the trials.
        store: its units, which note when passes were made smaller.
    """
    how = Measurement(
        lm=lm,
        snapshot=snapshot,
        heads=heads_of(config, lm),
        engine=engine_of(config, lm, store),
        score=config.score,
        seed=config.seed,
        n_mean_trials=config.data.n_mean_trials,
        unit_trials=config.compute.unit_trials or UNIT_TRIALS,
        keep_mb=config.compute.keep_mb,
    )
    return effects_flow(how, config.stats)


def _run(
    config: Config,
    lm: LanguageModel,
    snapshot: Snapshot,
    made_with: dict[str, Any],
    file: Relations | None,
    driver: Driver,
) -> None:
    paths, special = RunPaths.of(config), snapshot.meta.add_special_tokens
    before = read_meta(paths.stepd_meta) if paths.stepd_meta.exists() else None
    config = with_rows_of(config, before) if before else with_rows_for(config, lm)
    special_tokens = used_tokens(lm.tokenizer, special)
    setting, name = config.model.add_special_tokens, config.model.called("add_special_tokens")
    warning = special_tokens_warning(lm.tokenizer, special, setting, name)
    recorded = {"special_tokens": special_tokens, "warnings": [warning] if warning else []}
    meta = step_meta("stepD", config, lm, made_with=made_with, **recorded)
    if before:
        refuse_other_model(before, lm, paths)
    outputs = Outputs(paths.artifacts)
    forget_pages(paths, of_all_tags=True)
    write_meta(paths.stepd_meta, meta)
    write_snapshot(outputs.add(paths.snapshot), snapshot)
    log_warnings(file, snapshot, config.data.called)
    if warning:
        log.warning(warning)
    n_fit = sum(trial.split == "fit" for trial in snapshot.trials)
    shape = f"{lm.n_layers} layers x {lm.n_heads} heads, {config.compute.sweep.value} sweep"
    counts = f"{len(snapshot.qids)} relations, {n_fit} fit trials, {len(heads_of(config, lm))} heads of {lm.name}"
    log.info("StepD: %s (%s) in %s", counts, shape, paths.root)
    store = unit_store(config, lm)
    effects = driver.run(flow_of(config, lm, snapshot, store), "StepD", store)
    write_effects(outputs, snapshot, effects)
    write_screen(outputs, effects)
    write_means(outputs, paths, effects, lm.d_model)
    warnings = [*meta["warnings"], *memory_warnings(store.machines)]
    write_meta(paths.stepd_meta, finished(meta, outputs, computed_with=store.machines, warnings=warnings))
    log.info(disk_use(store, config.run_id))
