"""Step6: function vectors into zero-shot prompts -> effect per (fv, eval relation, layer, alpha) (spec section 2).

It evaluates every cell of the grid on all eval trials. Then it evaluates the cells that the dev trials choose, with
controls and baselines, on the test trials (`fv.evaluation.held_out`). It reads the snapshot and the files of StepD and
StepE; it never reads the CSV or draws trials.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from fv.analyses import analyses_of
from fv.config import Config
from fv.data.sampling import check_tokens
from fv.evaluation.cells import grid
from fv.evaluation.evaluation import GridResults
from fv.evaluation.held_out import HeldOutRows
from fv.files import digest_of
from fv.runs.completeness import finished_stepd, is_complete
from fv.runs.injected_vectors import outlines_of, plan_of
from fv.runs.live_run import LiveRun
from fv.runs.locks import run_lock
from fv.runs.machine import start_job
from fv.runs.paths import JOBS, RunPaths
from fv.runs.records import Step6Record
from fv.runs.step import Place, step, step_fields
from fv.runs.step6_files import META, rows_to_grow_from
from fv.runs.step_settings import Requested, step6_inputs, step6_settings
from fv.runs.units import disk_use
from fv.steps.analyses import analyse_after
from fv.steps.evaluation_checks import refuse_unfit_evaluation
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies
from fv.steps.summary import write_results
from fv.work.driver import SERIAL, Driver
from fv.work.flow import Flow

log = logging.getLogger(__name__)


class Step6Due(NamedTuple):
    """The work of a Step6. `known` has trial rows of the grid that it need not compute; None if there are none."""

    known: pd.DataFrame | None


@with_remedies()
def run_step6(
    config: Config, models: ModelHolder | None = None, as_cell: bool = False, driver: Driver = SERIAL
) -> Path:
    """Run Step6 over the grid of `injection.layer` and `injection.alpha`.

    Args:
        config: the configuration.
        models: loads the model, if it is needed; None loads it for this call only.
        as_cell: True if this is one job of a sweep. It computes its part of the grid only, into a folder of its own,
            `cells/<digest of its settings>/`, from which `fv.steps.gather` makes the sweep's summary.
        driver: computes the units, or lets workers compute them.

    Returns:
        the folder of its files.

    Raises:
        FvError: an earlier step is missing, was changed or belongs to another configuration; a q_id or layer is not
            possible; or Step6 has run here with other settings.
    """
    start_job(config.seed, config.compute)
    paths = RunPaths.of(config)
    with run_lock(paths.root, shared=True):  # no other command changes its inputs meanwhile
        stepd = finished_stepd(config)
        settings = step6_settings(config.injection, config.eval_scope, config.evaluation, config.stats)
        requested = Requested(settings, step6_inputs(config.injection, paths, stepd))
        if as_cell:
            paths = replace(paths, place=f"{JOBS}/{digest_of([*requested])[:16]}")
        run = replace(LiveRun.of(config, (models or ModelHolder()).of, driver, stepd), paths=paths)
        place = Place("Step6", paths, paths.step6 / META, paths.step6 / "step6.log")
        made = any(choice.is_made for choice in config.injection.choices)
        with step(place, lambda: _due(place, config.overwrite, requested, made)) as due:
            if due:
                _inject(run, place, due.known, requested)
        if not (due or as_cell):
            analyse_after("Step6", run)
    return place.folder


def _due(place: Place, overwrite: bool, requested: Requested, made: bool) -> Step6Due | None:
    """Find the work of a Step6 with these settings; None if it is complete."""
    if overwrite:
        return Step6Due(None)
    if known := rows_to_grow_from(place.folder, *requested):
        log.info("Step6 in %s grows: %s. Its cells are kept.", place.folder, ", ".join(known.grown))
        # A maker may depend on the cells that a vector is made for.
        return Step6Due(None if made else known.rows)
    return None if is_complete("Step6", place.record, Step6Record, *requested) else Step6Due(None)


def _inject(run: LiveRun, place: Place, known: pd.DataFrame | None, requested: Requested) -> None:
    # On a cluster a Step6 begins more than once, and the files of known rows exist only at its first beginning.
    flow = injections_flow(run, known if run.driver.alone else None)
    place.begin()
    fields = step_fields(run.settings, run.lm, run.snapshot.meta.add_special_tokens)
    store = run.units()
    found, rows = run.driver.run(flow, "Step6", store)
    results = run.evaluation.results(found, rows) if rows else None
    write_results(run, place, {**fields, **requested._asdict(), "computed_with": store.machines}, found, results)
    counts = len(found.vectors), len(found.cells), len(found.rows)
    log.info("Step6: %d vectors, %d cells, %d rows in %s", *counts, place.folder)
    log.info(disk_use(store, run.settings.run_id))


def injections_flow(run: LiveRun, known: pd.DataFrame | None = None) -> Flow[tuple[GridResults, HeldOutRows | None]]:
    """Inject vectors over the grid, and then at the chosen cells on the test trials if such results are requested.

    Args:
        run: the run; a job of a sweep, which has a place of its own, chooses no cells.
        known: trial rows at some of the cells, which are not computed again.

    Raises:
        FvError: the model differs from the run's, an earlier step's files were changed, a q_id or layer is not
            possible, or there are no trials to choose on.
    """
    settings, lm, evaluation = run.settings, run.lm, run.evaluation
    check_tokens(run.snapshot, lm, run.paths.snapshot)
    cells, n_eval = grid(settings.injection, lm.n_layers), settings.injection.n_eval
    if settings.evaluation.held_out and not run.paths.is_job:
        analyses = analyses_of(settings.analysis)
        refuse_unfit_evaluation(settings.evaluation, settings.injection, analyses, cells)
    making, outlines = run.vectors_flow(), outlines_of(settings.injection, run.snapshot)
    plan = plan_of(settings.eval_scope, run.snapshot, outlines)
    # The choice of a job of a sweep is made among the cells of all jobs, after they are gathered.
    parts = evaluation.parts(plan, cells, n_eval, choice=True if run.paths.is_job else None)

    def flow() -> Flow[tuple[GridResults, HeldOutRows | None]]:
        vectors = yield from making
        scopes = [(vector, qids) for vector, (_, qids) in zip(vectors, plan, strict=True)]
        found = yield from evaluation.grid_flow(scopes, cells, parts, n_eval, known)
        held_out = settings.evaluation.held_out and not run.paths.is_job
        return found, (yield from evaluation.held_out_flow(found)) if held_out else None

    return flow()
