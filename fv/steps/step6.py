"""Step6: function vectors into zero-shot prompts -> effect per (fv, eval relation, layer, alpha) (spec section 2).

First every cell of the grid on all eval trials, then the cells that the dev trials choose on the test trials, beside
controls and baselines (`fv.evaluation.held_out`). Reads the snapshot and StepD's and StepE's artifacts: never the CSV,
never samples.
"""

import logging
from dataclasses import replace
from pathlib import Path

from fv.config import Config
from fv.files import digest_of
from fv.models.special_tokens import used_tokens
from fv.runs.engine import with_rows_of
from fv.runs.locks import locked, run_lock
from fv.runs.logs import log_to_file
from fv.runs.made_with import step6_inputs, step6_settings
from fv.runs.metadata import finished_stepd, forget_pages, is_complete, start_job, step_meta
from fv.runs.paths import RunPaths
from fv.runs.step6_files import META, rows_to_grow_from
from fv.runs.units import disk_use
from fv.steps.advice import with_settings
from fv.steps.analyses import analyse_after
from fv.steps.holder import ModelHolder
from fv.steps.injections import Injections
from fv.steps.summary import write_results
from fv.work.driver import SERIAL, Driver

log = logging.getLogger(__name__)


@with_settings()
def run_step6(
    config: Config, models: ModelHolder | None = None, as_cell: bool = False, driver: Driver = SERIAL
) -> Path:
    """Run Step6 over the grid of `injection.layer` and `injection.alpha`.

    Args:
        config: the configuration.
        models: gives the model, if one is needed; None loads it for this step alone.
        as_cell: whether this is one job of a sweep. It computes its part of the grid only, into a folder of its own,
            `cells/<digest of its settings>/`, from which `fv.steps.gather` makes the sweep's summary.
        driver: has the units computed.

    Returns:
        the folder of its artifacts.

    Raises:
        FvError: an earlier step is missing, of another configuration or changed; a q_id or layer is not possible;
            Step6 ran here with other settings.
    """
    start_job(config)
    paths = RunPaths.of(config)
    with run_lock(paths.root, shared=True):
        return _run(config, paths, models or ModelHolder(), as_cell, driver)


def _run(config: Config, paths: RunPaths, models: ModelHolder, as_cell: bool, driver: Driver) -> Path:
    """Run Step6 in a run that nobody changes meanwhile."""
    stepd_meta = finished_stepd(paths, config)
    config = with_rows_of(config, stepd_meta)
    inputs = step6_inputs(config, paths, stepd_meta)
    settings = step6_settings(config)
    if as_cell:
        paths = replace(paths, place=f"cells/{digest_of([settings, inputs])[:16]}")
    folder = paths.step6
    with locked(folder), log_to_file(folder / "step6.log"):
        known = None if config.overwrite else rows_to_grow_from(folder, settings, inputs)
        if known:
            log.info("Step6 in %s grows: %s. Its cells are kept.", folder, ", ".join(known.grown))
        elif is_complete("Step6", folder / META, settings, inputs, config.overwrite):
            log.info("Step6 in %s is complete already.", folder)
            if not as_cell:
                analyse_after("Step6", config, paths, lambda: models.of(config), driver=driver)
            return folder
        lm = models.of(config)
        # A Step6 that workers have a part in begins more than once, and its rows are there at its first beginning only.
        kept = known.rows if known and driver.alone else None
        injections = Injections.of(config, paths, lm, stepd_meta, kept, as_cell)
        (folder / META).unlink(missing_ok=True)
        if not as_cell:
            forget_pages(paths)
        stepd, units = injections.stepd, injections.store
        special_tokens = used_tokens(lm.tokenizer, stepd.snapshot.meta.add_special_tokens)
        meta = step_meta("step6", config, lm, settings=settings, inputs=inputs, special_tokens=special_tokens)
        found, rows = driver.run(injections.flow(), "Step6", units)
        results = injections.evaluation.results(found, rows) if rows else None
        meta |= {"computed_with": units.machines}
        write_results(paths, config, stepd, found, results, meta, None if as_cell else lambda: lm, driver)
        counts = len(found.vectors), len(found.cells), len(found.rows)
        log.info("Step6: %d vectors, %d cells, %d rows in %s", *counts, folder)
        log.info(disk_use(units, config.run_id))
    return folder
