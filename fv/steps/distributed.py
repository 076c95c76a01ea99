"""Steps whose units are computed by the workers of a cluster; they write the same files with the same bytes.

This process only finds out what is finished. One worker runs the steps until units are missing, and all workers
compute these units. This repeats until the steps have finished.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from fv.analyses.running.runner import run_analysis
from fv.config import ComputeConfig, Config, DataConfig, ModelConfig, ScoreConfig
from fv.models.language_model import LanguageModel
from fv.models.shape import load_shape
from fv.runs.completeness import requested_relations, stepd_is_complete
from fv.runs.live_run import LiveRun
from fv.runs.locks import run_lock
from fv.runs.machine import start_job
from fv.runs.paths import RunPaths
from fv.steps import stepd
from fv.steps.analyses import requested_analyses
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies
from fv.steps.worker import STEPS
from fv.steps.worker_pool import worker_pool
from fv.work.driver import UnitsMissing, UntilMissing


class ModelNeeded(BaseException):
    """Raised if work is left that needs the model. It is not an error."""


class NoModels(ModelHolder):
    """Stands for a model holder where no model may be loaded."""

    def of(self, config: Config, fresh: bool = False) -> LanguageModel:
        """Load no model.

        Raises:
            ModelNeeded: always.
        """
        raise ModelNeeded


def run_pipeline(config: Config, models: ModelHolder | None = None) -> Path:
    """Run `fv.steps.pipeline.run_pipeline` with units computed by workers."""
    # As in that function: overwrite=true keeps a StepD that has the same settings and is complete.
    kept = config.overwrite and stepd_is_complete(config)
    return _run(("stepe", "step6") if kept else ("stepd", "stepe", "step6"), config)


@with_remedies()
def run_analyse(config: Config, models: ModelHolder | None = None, given: Iterable[str] = ()) -> Path:
    """Run `fv.steps.analyses.run_analyse` with units computed by workers."""
    paths = RunPaths.of(config)
    with run_lock(paths.root):
        for name, analysis, settings in requested_analyses(config, given):
            try:
                if settings.overwrite:
                    raise ModelNeeded  # overwrite=true computes units again, too
                run = LiveRun(paths, settings, partial(NoModels().of, settings), UntilMissing())
                run_analysis(name, analysis, run)
            except (ModelNeeded, UnitsMissing):
                with worker_pool(settings) as workers:
                    workers.run_steps({name: settings.overwrite})
    return paths.analyses


@with_remedies()
def _run(steps: Sequence[str], config: Config, models: ModelHolder | None = None) -> Path:
    """Run the steps that are not complete, in their order, with one set of workers."""
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
                _refuse_impossible(config.data, config.model, config.score, config.seed, config.compute)
            with worker_pool(config) as workers:
                workers.run_steps(dict.fromkeys(due, config.overwrite))
    return paths.step6 if "step6" in steps else paths.stepe if "stepe" in steps else paths.root


run_stepd, run_stepe, run_step6 = (partial(_run, (step,)) for step in ("stepd", "stepe", "step6"))


def _refuse_impossible(
    data: DataConfig, model: ModelConfig, score: ScoreConfig, seed: int, compute: ComputeConfig
) -> None:
    """Refuse impossible trials and heads before a job waits in a queue; this needs no weights.

    Raises:
        FvError: as StepD does.
    """
    shape = load_shape(model, compute)
    stepd.trials_of(data, model, seed, shape, requested_relations(data))
    stepd.heads_of(score, shape)
