"""StepD: relation CSV -> trials -> clean means -> CIE of every head for every relation -> AIE (spec section 2).

Each block of a relation's trials is a unit, which is written when it is done. After a kill, the same command computes
the missing units and writes the same bytes.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fv.config import Config, DataConfig, ModelConfig, ScoreConfig
from fv.data.relations import Relations
from fv.data.sampling import log_warnings, replay_snapshot, sample_snapshot
from fv.data.snapshot import Snapshot, write_snapshot
from fv.heads.effects import Effects
from fv.heads.measurement import UNIT_TRIALS, Measurement
from fv.heads.ranking import heads_to_sweep
from fv.heads.relations import effects_flow
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import special_tokens_warning
from fv.runs.completeness import has_stepd, kept_trials, requested_relations, stepd_made_with
from fv.runs.engine import engine_of, with_rows_for, with_rows_of
from fv.runs.live_run import LiveRun
from fv.runs.logs import log_to_file
from fv.runs.machine import start_job
from fv.runs.outputs import Outputs
from fv.runs.paths import RunPaths, refuse_links, refuse_one_file
from fv.runs.records import StepDRecord, read_record, write_record
from fv.runs.refusals import refuse_other_model, refuse_other_trials
from fv.runs.screen_files import write_screen
from fv.runs.step import Place, clear_run, forget_pages, step, step_fields
from fv.runs.stepd_files import write_effects, write_means
from fv.runs.units import disk_use, memory_warnings, unit_store
from fv.steps.analyses import analyse_after
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies
from fv.work.driver import SERIAL, Driver
from fv.work.flow import Flow
from fv.work.store import UnitStore

log = logging.getLogger(__name__)


class StepDDue(NamedTuple):
    """The work of StepD.

    Attributes:
        config: the configuration, with the run's `max_rows`.
        lm: the model.
        snapshot: the trials.
        file: the relations; None if trials are replayed.
    """

    config: Config
    lm: LanguageModel
    snapshot: Snapshot
    file: Relations | None = None


@with_remedies()
def run_stepd(config: Config, models: ModelHolder | None = None, driver: Driver = SERIAL) -> Path:
    """Run StepD, or its missing part.

    Args:
        config: the configuration.
        models: loads the model, if it is needed; None loads it for this call only.
        driver: computes the units, or lets workers compute them.

    Returns:
        the run's folder.

    Raises:
        FvError: any error of spec section 7 that concerns inputs, model or the run's folder.
    """
    models = models or ModelHolder()
    start_job(config.seed, config.compute)
    # StepD and its analyses have no tag.
    paths = replace(RunPaths.of(config), tag=None)
    refuse_links(paths.root)
    # If the trials cannot be drawn, the folder is removed again, so the log is opened only after that check.
    place = Place("StepD", paths, paths.stepd_meta, log=None, alone=True, on_all_pages=True)
    with step(place, lambda: _due(config, models)) as due:
        if due:
            if config.overwrite:
                clear_run(paths)
            with log_to_file(paths.logs / "stepD_aie.log"):
                _measure(due, place, driver)
    analyse_after("StepD", replace(LiveRun.of(config, models.of, driver), paths=paths))
    return paths.root


def _due(config: Config, models: ModelHolder) -> StepDDue | None:
    """Find the work of StepD; None if it is complete.

    Raises:
        FvError: the run belongs to another configuration, or the trials, heads or model do not exist.
    """
    paths, file = RunPaths.of(config), requested_relations(config.data)
    if not config.overwrite and has_stepd(config, file):
        return None
    lm = models.of(config)
    snapshot = trials_of(config.data, config.model, config.seed, lm, file)
    heads_of(config.score, lm)
    refuse_one_file(paths.root, snapshot.qids)
    if not config.overwrite and (kept := kept_trials(paths)):
        refuse_other_trials(kept, snapshot, paths)
    if config.overwrite or not paths.stepd_meta.exists():
        compute = with_rows_for(config.compute, lm, config.cluster)
    else:
        before = read_record(paths.stepd_meta, StepDRecord)
        refuse_other_model(before, lm, paths)
        compute = with_rows_of(config.compute, before)
    return StepDDue(replace(config, compute=compute), lm, snapshot, file)


def trials_of(data: DataConfig, model: ModelConfig, seed: int, lm: LanguageModel, file: Relations | None) -> Snapshot:
    """Sample trials from relations, or replay the trials that the settings name if there are no relations.

    Raises:
        TrialError: they cannot be sampled or replayed.
    """
    if file is None:
        return replay_snapshot(Path(str(data.fixed_trials_path)), data.qids, lm)
    return sample_snapshot(file, data, seed, lm, model.add_special_tokens, model.called("add_special_tokens"))


def heads_of(score: ScoreConfig, lm: LanguageModel) -> list[Head]:
    """The heads to sweep.

    Raises:
        ConfigError: the model has no such layer or head.
    """
    return heads_to_sweep(score.layers, score.heads, lm.n_layers, lm.n_heads, score.called)


def flow_of(due: StepDDue, store: UnitStore) -> Flow[Effects]:
    """Measure heads on the trials of a run.

    Args:
        due: the work.
        store: the store of the run's units, which records when passes were made smaller.
    """
    config, lm, snapshot, _ = due
    how = Measurement(
        lm=lm,
        snapshot=snapshot,
        heads=heads_of(config.score, lm),
        engine=engine_of(config.compute, lm, store),
        score=config.score,
        seed=config.seed,
        n_mean_trials=config.data.n_mean_trials,
        unit_trials=config.compute.unit_trials or UNIT_TRIALS,
        keep_mb=config.compute.keep_mb,
    )
    return effects_flow(how, config.stats)


def _measure(due: StepDDue, place: Place, driver: Driver) -> None:
    config, lm, snapshot, file = due
    paths, special = place.paths, snapshot.meta.add_special_tokens
    setting, name = config.model.add_special_tokens, config.model.called("add_special_tokens")
    warning = special_tokens_warning(lm.tokenizer, special, setting, name)
    warnings = [warning] if warning else []
    fields, made_with = step_fields(config, lm, special), stepd_made_with(config.data, file)
    begun = StepDRecord(**fields, made_with=made_with, warnings=warnings)
    outputs = Outputs(place.folder)
    forget_pages(paths, of_all_tags=True)
    # Written now and again at the end: a continued run keeps its trials, and workers read the settings.
    write_record(place.record, begun)
    write_snapshot(outputs.add(paths.snapshot), snapshot)
    log_warnings(file, snapshot, config.data.called)
    for line in warnings:
        log.warning(line)
    n_fit = sum(trial.split == "fit" for trial in snapshot.trials)
    shape = f"{lm.n_layers} layers x {lm.n_heads} heads, {config.compute.sweep.value} sweep"
    counts = f"{len(snapshot.qids)} relations, {n_fit} fit trials, {len(heads_of(config.score, lm))} heads of {lm.name}"
    log.info("StepD: %s (%s) in %s", counts, shape, paths.root)
    store = unit_store(paths, begun, config.model, config.compute, config.forgets_units)
    effects = driver.run(flow_of(due, store), "StepD", store)
    write_effects(outputs, snapshot, effects)
    write_screen(outputs, effects)
    write_means(outputs, paths, effects, lm.d_model)
    warnings += memory_warnings(store.machines)
    more = {"computed_with": store.machines, "warnings": warnings}
    place.finish(StepDRecord, {**fields, "made_with": made_with, **more}, outputs)
    log.info(disk_use(store, config.run_id))
