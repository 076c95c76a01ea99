"""The three steps in one process, with one model load."""

from contextlib import nullcontext
from pathlib import Path

from fv.config import Config
from fv.errors import ConfigError
from fv.runs.commands import command
from fv.runs.completeness import stepd_is_complete
from fv.runs.locks import run_lock
from fv.runs.paths import RunPaths
from fv.steps.holder import ModelHolder
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe
from fv.work.driver import SERIAL, Driver


def run_pipeline(
    config: Config, models: ModelHolder | None = None, as_cell: bool = False, driver: Driver = SERIAL
) -> Path:
    """StepD, StepE, Step6, with one model load; returns Step6's folder.

    Args:
        config: the configuration.
        models: gives the model to all three, if they need one; None loads it for these three alone.
        as_cell: whether this is one job of a sweep (`run_step6`).
        driver: has the units computed.

    Raises:
        FvError: as the steps do; also when a sweep's job would throw away what its other jobs wrote.
    """
    if as_cell and config.overwrite:
        raise ConfigError(
            "overwrite=true in a sweep of the pipeline would let each job throw away the run of the one before. "
            f"Run {command('stepd', 'overwrite=true')} first, then the sweep without it."
        )
    models = models or ModelHolder()
    # Over all steps, so that nobody comes between them; jobs of a sweep come between each other's.
    with nullcontext() if as_cell else run_lock(RunPaths.of(config).root):
        # What overwrite=true throws away is what is in the way, and a StepD of these very settings is not.
        if not (config.overwrite and stepd_is_complete(config)):
            run_stepd(config, models, driver)
        run_stepe(config, models, driver)
        return run_step6(config, models, as_cell, driver)
