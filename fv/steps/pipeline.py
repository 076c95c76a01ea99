"""Pipeline: the three steps in one process, with the model loaded once."""

from contextlib import nullcontext
from pathlib import Path

from fv.config import Config
from fv.errors import ConfigError
from fv.runs.commands import command
from fv.runs.completeness import stepd_is_complete
from fv.runs.locks import run_lock
from fv.runs.paths import RunPaths
from fv.steps.model_holder import ModelHolder
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe
from fv.work.driver import SERIAL, Driver


def run_pipeline(
    config: Config, models: ModelHolder | None = None, as_cell: bool = False, driver: Driver = SERIAL
) -> Path:
    """Run StepD, StepE and Step6, with the model loaded once.

    Args:
        config: the configuration.
        models: loads the model, if it is needed; None loads it for this call only.
        as_cell: True if this is one job of a sweep (`run_step6`).
        driver: computes the units, or lets workers compute them.

    Returns:
        Step6's folder.

    Raises:
        FvError: as the steps do; or a job of a sweep has `overwrite=true`, and would delete the files of other jobs.
    """
    if as_cell and config.overwrite:
        raise ConfigError(
            "overwrite=true in a sweep of the pipeline would let each job throw away the run of the one before. "
            f"Run {command('stepd', 'overwrite=true')} first, then the sweep without it."
        )
    models = models or ModelHolder()
    # One lock over all steps, so that no other command writes between them. Jobs of a sweep share the run instead.
    with nullcontext() if as_cell else run_lock(RunPaths.of(config).root):
        # overwrite=true keeps a StepD that has the same settings and is complete: it is not in the way.
        if not (config.overwrite and stepd_is_complete(config)):
            run_stepd(config, models, driver)
        run_stepe(config, models, driver)
        return run_step6(config, models, as_cell, driver)
