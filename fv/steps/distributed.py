"""The steps, with their units computed by the workers of a cluster: they end in the same files with the same bytes.

This process only finds out what is finished. One worker goes on with the steps until units are missing, all workers
compute these, one goes on, until the steps are at their end.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from fv.analyses.running.runner import run_analysis
from fv.config import Config
from fv.models.language_model import LanguageModel
from fv.models.shape import load_shape
from fv.runs.completeness import requested_relations, stepd_is_complete
from fv.runs.live_run import LiveRun
from fv.runs.locks import run_lock
from fv.runs.machine import start_job
from fv.runs.paths import RunPaths
from fv.steps import stepd
from fv.steps.advice import with_settings
from fv.steps.analyse import requested_analyses
from fv.steps.holder import ModelHolder
from fv.steps.worker import STEPS
from fv.steps.workers import workers_of
from fv.work.driver import UnitsMissing, UntilMissing


class ModelNeeded(BaseException):
    """Something is left to be made, and the model is needed for it. It is no error."""


class NoModels(ModelHolder):
    """Stands for a holder where no model is to be loaded."""

    def of(self, config: Config, fresh: bool = False) -> LanguageModel:
        """Load none.

        Raises:
            ModelNeeded: always.
        """
        raise ModelNeeded


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
        for name, analysis, settings in requested_analyses(config, given):
            try:
                if settings.overwrite:
                    raise ModelNeeded  # units, too, are made again
                run = LiveRun(paths, settings, partial(NoModels().of, settings), UntilMissing())
                run_analysis(name, analysis, run)
            except (ModelNeeded, UnitsMissing):
                with workers_of(settings) as workers:
                    workers.run_steps({name: settings.overwrite})
    return paths.analyses


@with_settings()
def _run(config: Config, steps: Sequence[str]) -> Path:
    """Run steps that follow one another, as far as they are not complete, with one set of workers."""
    start_job(config.seed, config.compute)
    paths = RunPaths.of(config)
    with run_lock(paths.root):
        due = list(steps)
        try:
            while due:
                STEPS[due[0]](config, NoModels(), driver=UntilMissing())
                del due[0]
        except (ModelNeeded, UnitsMissing):
            if "stepd" in due:
                _refuse_impossible(config)
            with workers_of(config) as workers:
                workers.run_steps(dict.fromkeys(due, config.overwrite))
    return paths.step6 if "step6" in steps else paths.stepe if "stepe" in steps else paths.root


def _elsewhere(step: str) -> Callable[..., Path]:
    """A step of the module of its name, its units computed elsewhere."""

    def run(config: Config, models: ModelHolder | None = None) -> Path:
        return _run(config, (step,))

    return run


run_stepd, run_stepe, run_step6 = (_elsewhere(step) for step in ("stepd", "stepe", "step6"))


def _refuse_impossible(config: Config) -> None:
    """Refuse, before a job waits in any queue, trials or heads that there are not; needs no weights.

    Raises:
        FvError: as StepD does.
    """
    shape = load_shape(config.model, config.compute)
    stepd.trials_of(config.data, config.model, config.seed, shape, requested_relations(config.data))
    stepd.heads_of(config.score, shape)
