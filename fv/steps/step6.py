"""Step6: function vectors into zero-shot prompts -> effect per (fv, eval relation, layer, alpha) (spec section 2).

First every cell of the grid on all eval trials, then the cells that the dev trials choose on the test trials, beside
controls and baselines (`fv.evaluation.held_out`). Reads the snapshot and StepD's and StepE's artifacts: never the CSV,
never samples.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fv.config import Config
from fv.data.sampling import check_tokens
from fv.errors import ConfigError
from fv.evaluation.cells import grid
from fv.evaluation.grid import Grid, eval_parts, evaluate_vectors, qids_of, trials_of
from fv.evaluation.questions import read_unrelated
from fv.evaluation.trial_rows import TRIAL_COLUMNS
from fv.files import digest_of, read_jsonl
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.models.special_tokens import used_tokens
from fv.runs.identity import as_recorded, flat
from fv.runs.logs import log_to_file
from fv.runs.metadata import (
    finished_stepd,
    is_complete,
    read_meta,
    refuse_other_model,
    start_job,
    stats_settings,
    step_meta,
)
from fv.runs.outputs import verify_outputs
from fv.runs.paths import RunPaths, locked
from fv.runs.results import StepdResults, norms_of_alpha
from fv.runs.units import disk_use, unit_store
from fv.steps.advice import with_settings
from fv.steps.holder import ModelHolder
from fv.steps.summary import evaluate_held_out, write_results
from fv.steps.vectors import has_choice, plan_of, vector_inputs, vectors_of

log = logging.getLogger(__name__)


@with_settings()
def run_step6(config: Config, models: ModelHolder | None = None, as_cell: bool = False) -> Path:
    """Run Step6 over the grid of `injection.layer` and `injection.alpha`.

    Args:
        config: the configuration.
        models: gives the model, if one is needed; None loads it for this step alone.
        as_cell: whether this is one job of a sweep. It computes its part of the grid only, into a folder of its own,
            `cells/<digest of its settings>/`, from which `fv.steps.gather` makes the sweep's summary.

    Returns:
        the folder of its artifacts.

    Raises:
        FvError: an earlier step is missing, of another configuration or changed; a q_id or layer is not possible;
            Step6 ran here with other settings.
    """
    start_job(config)
    paths = RunPaths.of(config)
    stepd_meta = finished_stepd(paths, config)
    trials = {"sampled_trials.json": stepd_meta["outputs"]["sampled_trials.json"]}
    verify_outputs(paths.artifacts, trials, "StepD")
    inputs = step6_inputs(config, paths, stepd_meta)
    settings = step6_settings(config)
    folder = paths.step6 / "cells" / digest_of([settings, inputs])[:16] if as_cell else paths.step6
    with locked(folder), log_to_file(folder / "step6.log"):
        known = None if config.overwrite else rows_to_grow_from(folder, settings, inputs)
        if known is None and is_complete("Step6", folder / "eval_meta.json", settings, inputs, config.overwrite):
            log.info("Step6 in %s is complete already.", folder)
            return folder
        lm = (models or ModelHolder()).of(config)
        refuse_other_model(stepd_meta, lm, paths)
        stepd = StepdResults.read(paths, stepd_meta)
        check_tokens(stepd.snapshot, lm, paths.snapshot)
        cells = grid(config.injection, lm.n_layers)
        held_out = config.evaluation.held_out and not as_cell
        if held_out:
            refuse_unfit_evaluation(config, cells)
        plan = plan_of(config, stepd.snapshot, vectors_of(config, paths, lm, stepd))
        # The cells of a sweep belong to a choice that none of them sees.
        dev_fraction = config.evaluation.dev_fraction if as_cell or has_choice(config, cells) else 0.0
        n_eval, qids = config.injection.n_eval, qids_of(plan)
        parts = eval_parts(stepd.snapshot, qids, n_eval, dev_fraction, config.seed)
        (folder / "eval_meta.json").unlink(missing_ok=True)
        special_tokens = used_tokens(lm.tokenizer, stepd.snapshot.meta.add_special_tokens)
        meta = step_meta("step6", config, lm, settings=settings, inputs=inputs, special_tokens=special_tokens)
        units = unit_store(config, lm)
        trials = trials_of(lm, stepd.snapshot, qids, n_eval, parts)
        compute = config.compute
        engine = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
        on = Grid(plan, trials, cells, norms_of_alpha(config, stepd.measured))
        rows = evaluate_vectors("Step6", engine, on, units, known)
        found = evaluate_held_out(config, lm, engine, stepd, rows, units) if held_out else None
        write_results(folder, config, stepd, rows, found, {**meta, "computed_with": units.machines})
        log.info("Step6: %d vectors, %d cells, %d rows in %s", len(plan), len(cells), len(rows), folder)
        log.info(disk_use(units, config.run_id))
    return folder


def rows_to_grow_from(folder: Path, settings: dict[str, Any], inputs: dict[str, str]) -> pd.DataFrame | None:
    """The trial rows of a finished Step6 that differs from this one in having fewer layers or alphas; None if there is
    none."""
    if not (folder / "eval_meta.json").exists():
        return None
    meta = read_meta(folder / "eval_meta.json")
    there, here = as_recorded(meta["settings"], settings), flat(settings)
    changed = [key for key in here if there[key] != here[key]]
    if not changed or meta["inputs"] != inputs or not all(_has_grown(key, there[key], here[key]) for key in changed):
        return None
    verify_outputs(folder, meta["outputs"], "Step6")
    rows = pd.DataFrame(read_jsonl(folder / "eval_trials.jsonl"))
    if not set(TRIAL_COLUMNS) <= set(rows.columns):
        return None  # an older version told less of a trial
    log.info("Step6 in %s grows: %s. Its cells are kept.", folder, ", ".join(changed))
    return rows


def _has_grown(key: str, there: Any, here: Any) -> bool:
    """Whether a setting names all layers or alphas that it named before, and more."""
    if key not in ("injection.layer", "injection.alpha"):
        return False
    return here == "all" or (there != "all" and set(there) < set(here))


def step6_settings(config: Config) -> dict[str, Any]:
    """What a Step6 folder is made with."""
    values = config.resolved()
    skipped = ("quick_eval", "fv_path")  # the first is StepE's; the file itself is among the inputs, by its hash
    settings = {f"injection.{key}": value for key, value in values["injection"].items() if key not in skipped}
    for group in ("eval_scope", "evaluation"):
        settings |= {f"{group}.{key}": value for key, value in values[group].items()}
    return settings | stats_settings(config)


def step6_inputs(config: Config, paths: RunPaths, stepd_meta: dict[str, Any]) -> dict[str, str]:
    """{file: SHA-256} of what Step6 reads."""
    outputs = stepd_meta["outputs"]
    trials = {"sampled_trials.json": outputs["sampled_trials.json"]}
    return {**trials, **vector_inputs(config, paths, trials), "stepD": digest_of(outputs)}


def refuse_unfit_evaluation(config: Config, cells: Sequence[Cell]) -> None:
    """Refuse, before anything is computed, what could not be evaluated afterwards.

    Raises:
        ConfigError: a choice would have no trials to be made on, or the unrelated texts cannot be read.
    """
    evaluation = config.evaluation
    if not evaluation.dev_fraction and has_choice(config, cells):
        raise ConfigError(
            f"evaluation.dev_fraction=0 leaves no trials to choose one of {len(cells)} cells on. Give a fraction, or "
            "one injection.layer, one injection.alpha and at most one injection.k; or evaluation=grid for all cells "
            "without a choice."
        )
    if evaluation.n_unrelated:
        read_unrelated(evaluation)
