"""Gathering of a sweep: from its cells to the summary of a single job over the same layers and alphas."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from fv.analyses import analyses_of
from fv.config import Config, InjectionConfig
from fv.errors import ArtifactError, ConfigError
from fv.evaluation.evaluation import GridResults, has_choice
from fv.evaluation.grid import eval_parts
from fv.files import safe_name
from fv.interventions.engine import Cell
from fv.runs.commands import command
from fv.runs.completeness import finished_stepd
from fv.runs.identity import flat
from fv.runs.injected_vectors import outlines_of
from fv.runs.live_run import LiveRun
from fv.runs.locks import locked, run_lock
from fv.runs.logs import log_to_file
from fv.runs.machine import start_job
from fv.runs.paths import FV_META, JOBS, RunPaths, paths_of_step6, refuse_links, run_folder
from fv.runs.records import Step6Record, StepDRecord, read_record
from fv.runs.refusals import REMEDY, refuse_other_settings
from fv.runs.step import Place, forget_pages
from fv.runs.step6_files import META, SWEPT, grown_settings
from fv.runs.step_settings import step6_inputs, step6_settings
from fv.runs.sweep_cells import (
    current_cells,
    finished_cells,
    gathered_record,
    gathered_settings,
    read_cells,
    read_rows,
    without_swept,
)
from fv.steps.evaluation_checks import refuse_unfit_evaluation
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies
from fv.steps.seeds import run_seeds
from fv.steps.summary import write_results

log = logging.getLogger(__name__)


def run_gather(config: Config, models: ModelHolder | None = None) -> Path:
    """Gather the finished cells of a run and tag that differ in layer and alpha only; or average runs over seeds.

    Args:
        config: the configuration; it averages the runs of `config.runs` if this is given.
        models: loads the model, if it is needed; None loads it for this call only.

    Raises:
        ArtifactError: there are no such cells, or another summary is in the way.
    """
    if config.runs is not None:
        return run_seeds(Path(config.results_dir), config.runs, config.tag)
    paths = RunPaths.of(config)
    refuse_links(paths.root)
    base = without_swept(step6_settings(config.injection, config.eval_scope, config.evaluation, config.stats))
    cells = [cell for cell in finished_cells(paths.step6) if without_swept(_record(cell).settings) == base]
    if not cells:
        raise ArtifactError(
            f"There are no finished cells in {paths.step6 / JOBS} with these settings. A sweep makes them: "
            + command("step6", "-m injection.layer=8,12 injection.alpha=1.0,2.0")
        )
    finished_stepd(config)
    return gather_cells(paths.step6, cells, config.overwrite, models)


def cells_by_place(folder: Path, cells: Sequence[Path]) -> dict[Path, list[Path]]:
    """Group the cells of a sweep: {folder that they are gathered into (`places_of`): its cells}."""
    every = sorted(set(cells))
    found = places_of(folder, [_record(cell).settings for cell in every])
    return {place: [every[i] for i in numbers] for place, numbers in found.items()}


def places_of(folder: Path, settings: Sequence[Mapping[str, Any]]) -> dict[Path, list[int]]:
    """Group jobs by their settings: {folder that they are gathered into: the numbers of its jobs}.

    If the jobs differ in layer and alpha only, the folder is `folder`. Else each combination of the other differing
    settings has a folder in it, named after their values.
    """
    bases = [without_swept(flat(own)) for own in settings]
    differing = sorted(key for key in bases[0] if any(base[key] != bases[0][key] for base in bases))
    places: dict[Path, list[int]] = defaultdict(list)
    for i, base in enumerate(bases):
        name = ",".join(f"{key}={base[key]}" for key in differing)
        places[folder / safe_name(name) if differing else folder].append(i)
    return places


def refuse_unfit_sweep(configs: Sequence[Config], own_vectors: bool) -> None:
    """Refuse, before anything is computed, jobs whose results could not be gathered.

    Args:
        configs: the configurations of the jobs.
        own_vectors: True if each job needs vectors of its own and does not make them itself.

    Raises:
        FvError: there are no trials to choose among the cells of all jobs on, the settings of an analysis are not
            possible, another summary is in the way, or StepE has not made the vectors.
    """
    together: dict[Path, list[Config]] = defaultdict(list)
    for config in configs:
        together[RunPaths.of(config).step6].append(config)
        if own_vectors and not ((folder := RunPaths.of(config).stepe) / FV_META).exists():
            raise ArtifactError(
                f"There are no function vectors in {folder}: settings of score are StepE's. Give the sweep to "
                f"{command('pipeline')}, or to {command('stepe')} first."
            )
    for folder, own in together.items():
        settings = [step6_settings(each.injection, each.eval_scope, each.evaluation, each.stats) for each in own]
        for place, numbers in places_of(folder, settings).items():
            if len(numbers) > 1:
                _refuse_made_vectors(own[numbers[0]].injection)
            every, config = gathered_settings([settings[i] for i in numbers]), own[numbers[0]]
            layers, alphas = (every[key] for key in SWEPT)
            injection = replace(config.injection, layer=layers, alpha=alphas)
            if config.evaluation.held_out:
                cells = None if layers == "all" else [Cell(*cell) for cell in product(layers, alphas)]
                refuse_unfit_evaluation(config.evaluation, injection, analyses_of(config.analysis), cells)
            if not config.overwrite:
                _refuse_other_summary(place, every)


def _refuse_made_vectors(injection: InjectionConfig) -> None:
    """Refuse vectors of makers in jobs that each have a part of the cells, as a maker may depend on all of them."""
    if made := [choice.name for choice in injection.choices if choice.is_made]:
        raise ConfigError(
            f"injection.fv={made[0]}: a maker may depend on all layers and alphas, so they are no jobs of a sweep. "
            "Give them to one job, as a list: injection.layer=[8,12]."
        )


def gather_cells(folder: Path, cells: Sequence[Path], overwrite: bool, models: ModelHolder | None = None) -> Path:
    """Write the summary of `cells` into `folder`; stale cells are left out.

    Raises:
        ArtifactError: all cells are stale, they differ in more than layer and alpha, a cell's files changed, or another
            summary is in the way and `overwrite` is false.
    """
    with run_lock(run_folder(folder), shared=True), locked(folder), log_to_file(folder / "step6.log"):
        first = _record(cells[0])
        paths = paths_of_step6(folder, first.config.tag)
        inputs = step6_inputs(first.config.injection, paths, read_record(paths.stepd_meta, StepDRecord))
        found = read_cells(current_cells(cells, inputs))
        record = gathered_record(found)
        if (folder / META).exists() and not overwrite:
            _refuse_other_summary(folder, record.settings)
            if _record(folder).inputs != record.inputs:
                log.info("The summary in %s is stale: the run has grown since. Making it again.", folder)
        if not paths.place:
            forget_pages(paths)
        # The present name and place of the run: its folder may have been moved.
        results_dir, run_id = str(paths.root.parent.parent), paths.root.name
        config = replace(record.config, results_dir=results_dir, run_id=run_id, tag=paths.tag, overwrite=overwrite)
        start_job(config.seed, config.compute)
        models = models or ModelHolder()
        run = replace(LiveRun.of(config, models.of, record=finished_stepd(config)), paths=paths)
        _write(run, read_rows(found), dict(record))
        log.info("Gathered %d cells into %s", len(found), folder / "eval_summary.json")
    return folder


def _record(folder: Path) -> Step6Record:
    return read_record(folder / META, Step6Record)


def _refuse_other_summary(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse to replace another summary, unless that differs only in having fewer layers or alphas.

    Raises:
        ArtifactError: there is such a summary; the message names each differing setting.
    """
    if (folder / META).exists():
        there = _record(folder).settings
        if not grown_settings(there, settings):
            kept = f"The sweep's cells are kept. {REMEDY}"
            refuse_other_settings(there, settings, f"Step6 in {folder}", kept)


@with_remedies()
def _write(run: LiveRun, rows: pd.DataFrame, fields: Mapping[str, Any]) -> None:
    """Write the summary. Conditions on test trials are run here, because a single cell cannot choose among cells.

    Args:
        run: the run, in the place that the cells are gathered into.
        rows: the trial rows of all jobs.
        fields: the fields of the record of a single job over all layers and alphas.
    """
    config, paths = run.settings, run.paths
    cells = [Cell(*cell) for cell in rows[["layer", "alpha"]].drop_duplicates().itertuples(index=False)]
    outlines, dev_fraction = outlines_of(config.injection, run.snapshot), config.evaluation.dev_fraction
    qids = sorted(rows["eval_qid"].unique())
    is_choice = has_choice(outlines, cells)
    parts = eval_parts(run.snapshot, qids, config.injection.n_eval, dev_fraction if is_choice else 0.0, config.seed)
    rows = rows.assign(part=rows["trial_id"].map(parts))
    found, results = GridResults(rows, [], cells, parts), None
    if config.evaluation.held_out:
        refuse_unfit_evaluation(config.evaluation, config.injection, analyses_of(config.analysis), cells)
        store = run.units()
        found = found._replace(vectors=run.driver.run(run.vectors_flow(), "Step6", store))
        held_out = run.driver.run(run.evaluation.held_out_flow(found), "Step6", store)
        results = run.evaluation.results(found, held_out)
        fields = {**fields, "computed_with": store.machines}
    write_results(run, Place("Step6", paths, paths.step6 / META, None), fields, found, results)
