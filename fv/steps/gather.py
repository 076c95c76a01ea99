"""From a sweep's cells to the one summary that a single job over the same layers and alphas writes."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from fv.config import Config
from fv.errors import ArtifactError, shorten
from fv.evaluation.grid import eval_parts
from fv.evaluation.trial_rows import sort_trials
from fv.files import read_jsonl, safe_name
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.runs.identity import flat
from fv.runs.logs import log_to_file
from fv.runs.metadata import (
    REMEDY,
    finished_stepd,
    read_meta,
    refuse_difference,
    refuse_other_model,
    refuse_other_settings,
    start_job,
)
from fv.runs.outputs import verify_outputs
from fv.runs.paths import RunPaths, locked
from fv.runs.results import StepdResults
from fv.runs.units import unit_store
from fv.steps.advice import with_settings
from fv.steps.holder import ModelHolder
from fv.steps.seeds import run_seeds
from fv.steps.step6 import refuse_unfit_evaluation, step6_inputs, step6_settings
from fv.steps.summary import evaluate_held_out, write_results
from fv.steps.vectors import has_choice

SWEPT = ("injection.layer", "injection.alpha")
log = logging.getLogger(__name__)


def run_gather(config: Config, models: ModelHolder | None = None) -> Path:
    """Gather all finished cells of `config`'s run and tag that differ in layer and alpha only; or the runs of
    `config.runs` over their seeds.

    Args:
        config: the configuration.
        models: gives the model, if one is needed; None loads it for this alone.

    Raises:
        ArtifactError: there are none, or another summary is in the way.
    """
    if config.runs is not None:
        return run_seeds(config)
    folder = RunPaths.of(config).step6
    base = _base(step6_settings(config))
    cells = [cell for cell in _finished(folder) if _base(read_meta(cell / "eval_meta.json")["settings"]) == base]
    if not cells:
        raise ArtifactError(
            f"There are no finished cells in {folder / 'cells'} with these settings. A sweep makes them: "
            "python -m entrypoints.step6 -m injection.layer=8,12 injection.alpha=1.0,2.0"
        )
    return gather_cells(folder, _current(cells, config), config.overwrite, models)


def places_of(folder: Path, cells: Sequence[Path]) -> dict[Path, list[Path]]:
    """Where the cells of a sweep are gathered: in `folder`, or, if the sweep went over other settings than layer and
    alpha too, in a folder of its own for each of their combinations, named after them."""
    bases = {cell: _base(flat(read_meta(cell / "eval_meta.json")["settings"])) for cell in sorted(set(cells))}
    swept = sorted({key for one in bases.values() for other in bases.values() for key in one if one[key] != other[key]})
    places: dict[Path, list[Path]] = defaultdict(list)
    for cell, base in bases.items():
        name = ",".join(f"{key}={base[key]}" for key in swept)
        places[folder / safe_name(name) if swept else folder].append(cell)
    return places


def gather_cells(folder: Path, cells: Sequence[Path], overwrite: bool, models: ModelHolder | None = None) -> Path:
    """Write the summary of `cells` into `folder`.

    Raises:
        ArtifactError: cells differ in more than layer and alpha, a cell's files changed, or another summary is in
            the way and `overwrite` is false.
    """
    metas = {cell: read_meta(cell / "eval_meta.json") for cell in sorted(set(cells))}
    first = next(iter(metas.values()))
    for cell, meta in metas.items():
        tell = "A sweep over other settings than layer and alpha needs a tag for each: tag=<name>."
        refuse_difference(_base(first["settings"]), _base(meta["settings"]), f"Cell {cell}", tell)
        refuse_difference(first["inputs"], meta["inputs"], f"Cell {cell} (made from other files)", tell)
        verify_outputs(cell, meta["outputs"], "Step6")
    settings = {**first["settings"], **{key: _union(metas.values(), key) for key in SWEPT}}
    with locked(folder), log_to_file(folder / "step6.log"):
        if (folder / "eval_meta.json").exists() and not overwrite:
            there = read_meta(folder / "eval_meta.json")
            refuse_other_settings(
                there["settings"], settings, f"Step6 in {folder}", f"The sweep's cells are kept. {REMEDY}"
            )
            if there["inputs"] != first["inputs"]:
                log.info("The summary in %s is stale: the run has grown since. Making it again.", folder)
        tables = [pd.DataFrame(read_jsonl(cell / "eval_trials.jsonl")) for cell in metas]
        rows = sort_trials(pd.concat(tables, ignore_index=True).drop_duplicates(["trial_id", "fv", "layer", "alpha"]))
        swept = {key.removeprefix("injection."): settings[key] for key in SWEPT}
        resolved = {**first["config"], "injection": {**first["config"]["injection"], **swept}}
        config = TypeAdapter(Config).validate_python(resolved)
        meta = {**first, "config": resolved, "settings": settings, "gathered_cells": [cell.name for cell in metas]}
        _write(folder, config, rows, meta, models or ModelHolder())
        log.info("Gathered %d cells into %s", len(metas), folder / "eval_summary.json")
    return folder


def _current(cells: Sequence[Path], config: Config) -> list[Path]:
    """The cells that were made from the run as it is; a line names how many are older.

    Raises:
        ArtifactError: all are older: the run has grown since, or an earlier step was made again.
    """
    paths = RunPaths.of(config)
    inputs = step6_inputs(config, paths, finished_stepd(paths, config))
    found = {cell: read_meta(cell / "eval_meta.json")["inputs"] for cell in cells}
    current = [cell for cell in cells if found[cell] == inputs]
    if not current:
        there = found[cells[0]]
        changed = sorted(name for name in {*inputs, *there} if inputs.get(name) != there.get(name))
        raise ArtifactError(
            f"All finished cells are stale: {shorten(changed)} changed since. The sweep's own command makes them "
            "again, mostly from finished units."
        )
    if len(current) < len(cells):
        log.info("%d cells are stale, and are left out: the run has grown since.", len(cells) - len(current))
    return current


@with_settings()
def _write(folder: Path, config: Config, rows: pd.DataFrame, meta: dict[str, Any], models: ModelHolder) -> None:
    """Write the summary; what is due on the test trials is run here, for no single cell could choose."""
    start_job(config)
    paths = RunPaths.of(config)
    stepd_meta = finished_stepd(paths, config)
    stepd = StepdResults.read(paths, stepd_meta)
    cells = [Cell(*cell) for cell in rows[["layer", "alpha"]].drop_duplicates().itertuples(index=False)]
    dev_fraction = config.evaluation.dev_fraction if has_choice(config, cells) else 0.0
    qids = sorted(rows["eval_qid"].unique())
    parts = eval_parts(stepd.snapshot, qids, config.injection.n_eval, dev_fraction, config.seed)
    rows["part"] = rows["trial_id"].map(parts)
    found = None
    if config.evaluation.held_out:
        refuse_unfit_evaluation(config, cells)
        lm = models.of(config)
        refuse_other_model(stepd_meta, lm, paths)
        units = unit_store(config, lm)
        compute = config.compute
        engine = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
        found = evaluate_held_out(config, lm, engine, stepd, rows, units)
        meta = {**meta, "computed_with": units.machines}
    write_results(folder, config, stepd, rows, found, meta)


def _finished(folder: Path) -> list[Path]:
    return sorted(path.parent for path in (folder / "cells").glob("*/eval_meta.json"))


def _base(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in SWEPT}


def _union(metas: Any, key: str) -> Any:
    """All values that the cells have for a swept key, sorted; `all` stays `all`."""
    values = [meta["settings"][key] for meta in metas]
    return "all" if "all" in values else sorted({item for value in values for item in value})
