"""The steps, with their units computed by the workers of a cluster.

Each step here does as the one of its name does in one process: it ends in the same files with the same bytes. What is
missing is computed stage by stage; then a worker runs the step itself, which finds every unit and writes the outputs.
"""

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cache
from itertools import groupby
from pathlib import Path

from fv.analyses.running.analysed_run import AnalysedRun
from fv.analyses.running.runner import is_made
from fv.cluster.work.stage import Task
from fv.config import Config
from fv.data.snapshot import read_snapshot, write_snapshot
from fv.errors import ClusterError
from fv.heads.piece import Kind, Piece, PiecesMissingError
from fv.heads.relation_run import RelationRuns
from fv.heads.relations import measure
from fv.heads.screened_run import estimate_of
from fv.models.language_model import LanguageModel
from fv.models.loading import files_as_they_are
from fv.models.shape import load_shape
from fv.progress import bars
from fv.runs.commands import command
from fv.runs.completeness import has_stepd, relations_asked, stepd_is_complete, stepd_made_with, trials_there
from fv.runs.engine import with_rows, with_rows_of
from fv.runs.injected import outlines_of, plan_of
from fv.runs.locks import run_lock
from fv.runs.logs import muted
from fv.runs.made_with import step6_inputs, step6_settings
from fv.runs.metadata import (
    clear_run,
    finished_stepd,
    forget_pages,
    is_complete,
    refuse_other_model,
    refuse_other_trials,
    start_job,
)
from fv.runs.outputs import find_flaw
from fv.runs.paths import RunPaths, refuse_one_file
from fv.runs.records import read_meta
from fv.runs.step6_files import META, rows_to_grow_from
from fv.steps import step6, stepd, stepe
from fv.steps.advice import with_settings
from fv.steps.analyse import asked_analyses
from fv.steps.analyses import analyses_after
from fv.steps.driver import Driver, driving
from fv.steps.holder import ModelHolder
from fv.steps.tasks import analysis_task, grid_tasks, held_out_tasks, piece_task
from fv.units import unit_names

STAGES = {
    Kind.clean: "prompts",
    Kind.zero_shot: "prompts",
    Kind.screen: "screen",
    Kind.effects: "effects",
    Kind.corrupted: "effects",
}
"""The stages of StepD, in their order, by what is run."""
log = logging.getLogger(__name__)


class NoModels(ModelHolder):
    """Stands for a holder where nothing is left to compute."""

    def of(self, config: Config, fresh: bool = False) -> LanguageModel:
        """Refuse to load a model here.

        Raises:
            ClusterError: always.
        """
        raise ClusterError(
            f"An analysis of {config.run_id} needs the model, and none is loaded here: "
            f"{command('analyse', f'run_id={config.run_id}')} with the analysis and the cluster."
        )


def run_stepd(config: Config, models: ModelHolder | None = None) -> Path:
    """`fv.steps.stepd.run_stepd`, its units computed elsewhere."""
    return _run(config, ("stepd",))


def run_stepe(config: Config, models: ModelHolder | None = None) -> Path:
    """`fv.steps.stepe.run_stepe`, run elsewhere."""
    return _run(config, ("stepe",))


def run_step6(config: Config, models: ModelHolder | None = None) -> Path:
    """`fv.steps.step6.run_step6`, its units computed elsewhere."""
    return _run(config, ("step6",))


def run_pipeline(config: Config, models: ModelHolder | None = None) -> Path:
    """`fv.steps.pipeline.run_pipeline`, its units computed elsewhere."""
    # As there: with overwrite, what of the run is in the way goes, and a StepD of these very settings is not.
    kept = config.overwrite and stepd_is_complete(config)
    return _run(config, ("stepe", "step6") if kept else ("stepd", "stepe", "step6"))


@with_settings()
def run_analyse(config: Config, models: ModelHolder | None = None, given: Iterable[str] = ()) -> Path:
    """`fv.steps.analyse.run_analyse`, its units computed elsewhere."""
    paths = RunPaths.of(config)
    with run_lock(paths.root):
        for name, analysis, settings in asked_analyses(config, given):
            run = AnalysedRun(paths, settings, lambda: NoModels().of(config))
            if is_made(name, analysis, run):
                log.info("The analysis %s of %s is complete already.", name, paths.root)
                continue
            made_from = [asdict(analysis), run.inputs(analysis.reads)]
            with driving(settings) as driver:
                units = driver.once(name, "units", {"do": "units_of", "name": name}, made_from)
                tasks = [analysis_task(name, unit) for unit in units]
                driver.run(name, "analysis", driver.missing(name, "analysis", tasks, made_from))
                driver.run(name, "tables", [Task("tables", {"do": "analyse", "name": name})])
    return paths.analyses


@with_settings()
def _run(config: Config, steps: Sequence[str]) -> Path:
    """Run steps that follow one another, as far as they are not complete, with one set of workers."""
    start_job(config)
    paths = RunPaths.of(config)
    with run_lock(paths.root), _workers_when_due(config) as workers:
        finish: dict[str, bool] = {}
        max_rows: int | None = None
        if "stepd" in steps:
            made_with = stepd_made_with(config, relations_asked(config))
            if not config.overwrite and has_stepd(paths, config, made_with):
                stepd.run_stepd(config, NoModels())
            else:
                max_rows = _compute_stepd(workers())
                finish["stepd"] = False
        if "stepe" in steps:
            if not finish and _has_stepe(config, paths):
                stepe.run_stepe(config, NoModels())
            else:
                finish["stepe"] = config.overwrite
        if finish:
            first, *_ = ("StepD" if step == "stepd" else "StepE" for step in finish)
            workers().run(first, "tables", [Task("tables", {"do": "finish", "steps": finish, "max_rows": max_rows})])
        if "step6" in steps:
            _run_step6(config, paths, workers)
    return paths.step6 if "step6" in steps else paths.stepe if "stepe" in steps else paths.root


@contextmanager
def _workers_when_due(config: Config) -> Iterator[Callable[[], Driver]]:
    """Gives the driver, whose workers are started when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def workers() -> Driver:
            return stack.enter_context(driving(config))

        yield workers


def _compute_stepd(driver: Driver) -> int:
    """Have every unit of StepD computed; gives the size of its passes."""
    config, paths = driver.config, driver.paths
    file = relations_asked(config)
    model = [asdict(config.model), asdict(config.compute), files_as_they_are(config.model)]
    proved = driver.once("StepD", "model", {"do": "prove"}, repr(model))
    lm = load_shape(config.model, config.compute, proved["fingerprint"])
    snapshot = stepd.trials_asked(config, lm, file)
    stepd.heads_of(config, lm)
    refuse_one_file(paths.root, snapshot.qids)
    if config.overwrite:
        clear_run(paths)
    elif there := trials_there(paths):
        refuse_other_trials(there, snapshot, paths)
    if paths.stepd_meta.exists():
        meta = read_meta(paths.stepd_meta)
        refuse_other_model(meta, lm, paths)
        config = with_rows_of(config, meta)
    else:
        config = with_rows(config, max(2, proved["max_rows"] // driver.sharing))
    write_snapshot(paths.trials_at_work, snapshot)
    runs = replace(stepd.relation_runs(config, lm, snapshot), looking=True)
    before: list[Piece] = []
    while pieces := _missing_pieces(runs, config):
        if pieces == before:
            raise ClusterError(
                f"Workers computed {pieces[0].kind} of {pieces[0].q_id}, and {paths.units} lacks it: they see another "
                "folder, or other weights."
            )
        before = pieces
        stages = [*dict.fromkeys(STAGES.values())]
        pieces = sorted(pieces, key=lambda piece: stages.index(STAGES[piece.kind]))
        for name, own in groupby(pieces, lambda piece: STAGES[piece.kind]):
            driver.run("StepD", name, [piece_task(runs, piece, config.compute.max_rows) for piece in own])
    return config.compute.max_rows


def _missing_pieces(runs: RelationRuns, config: Config) -> list[Piece]:
    """The pieces that the step could compute now, and that have no unit."""
    estimate = estimate_of(runs.engine, config.score)
    with bars(False), muted():
        try:
            measure(runs, config.stats, "StepD", estimate)
        except PiecesMissingError as error:
            return error.pieces
    return []


def _has_stepe(config: Config, paths: RunPaths) -> bool:
    """Whether StepE is complete."""
    meta = finished_stepd(paths, config)
    lacks_vectors, subset = stepe.lacking(config, paths, meta["outputs"])
    return not lacks_vectors and subset is None


def _run_step6(config: Config, paths: RunPaths, workers: Callable[[], Driver]) -> None:
    """Run Step6, from units that workers compute, unless it is complete."""
    inputs = step6_inputs(config, paths, finished_stepd(paths, config))
    settings = step6_settings(config)
    grows = not config.overwrite and rows_to_grow_from(paths.step6, settings, inputs) is not None
    if not grows and is_complete("Step6", paths.step6 / META, settings, inputs, config.overwrite):
        step6.run_step6(config, NoModels())
        return
    driver, made_from = workers(), [settings, inputs]
    if config.overwrite:
        _forget_step6(driver)
    (paths.step6 / META).unlink(missing_ok=True)
    forget_pages(paths)
    snapshot = read_snapshot(paths.snapshot)
    plan = plan_of(config, snapshot, outlines_of(config, snapshot))
    driver.run("Step6", "grid", driver.missing("Step6", "grid", grid_tasks(snapshot, plan), made_from))
    if config.evaluation.held_out:
        tests = held_out_tasks(snapshot, plan)
        driver.run("Step6", "test trials", driver.missing("Step6", "test trials", tests, made_from))
    if analyses_after("Step6", config):
        rows = {"do": "rows"}
        made = driver.once("Step6", "tables", rows, made_from)
        if find_flaw(paths.step6, made["written"], "Step6"):
            made = driver.run("Step6", "tables", [Task("tables", rows)])["tables"]
        written, units = made["written"], made["units"]
        tasks = [analysis_task(name, unit, written) for name, own in units.items() for unit in own]
        driver.run("Step6", "analyses", driver.missing("Step6", "analyses", tasks, [made_from, written]))
    driver.run("Step6", "summary", [Task("summary", {"do": "finish", "steps": {"step6": config.overwrite}})])


def _forget_step6(driver: Driver) -> None:
    """Throw away the units that are not StepD's, and the records of Step6: all of it is computed again."""
    for path, name in unit_names(driver.paths.units):
        if name.kind not in {kind.value for kind in Kind}:
            path.unlink(missing_ok=True)
    for folder in driver.paths.stages.glob("Step6*"):
        shutil.rmtree(folder)
