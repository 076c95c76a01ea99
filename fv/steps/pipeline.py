"""The three steps in one process, with one model load."""

from pathlib import Path

from fv.config import Config
from fv.errors import ConfigError
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe


def run_pipeline(config: Config, as_cell: bool = False) -> Path:
    """StepD, StepE, Step6; returns Step6's folder. The model stays loaded between them (`load_model`).

    Raises:
        FvError: as the steps do; also when a sweep's job would throw away what its other jobs wrote.
    """
    if as_cell and config.overwrite:
        raise ConfigError(
            "overwrite=true in a sweep of the pipeline would let each job throw away the run of the one before. "
            "Run python -m entrypoints.stepd overwrite=true first, then the sweep without it."
        )
    run_stepd(config)
    run_stepe(config)
    return run_step6(config, as_cell)
