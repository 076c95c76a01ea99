"""The evaluation that a run's settings ask for."""

from fv.config import Config
from fv.evaluation.evaluation import Evaluation
from fv.heads.ranking import Ranking
from fv.interventions.engine import Engine
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults, ranking_of


def evaluation_of(
    config: Config, lm: LanguageModel, engine: Engine, stepd: StepdResults, ranking: Ranking | None = None
) -> Evaluation:
    """The evaluation of `config` on what StepD found.

    Args:
        config: the configuration of the whole grid.
        lm: the model.
        engine: runs its prompts.
        stepd: StepD's artifacts.
        ranking: how heads are ranked; None for what StepE recorded.
    """
    return Evaluation(
        lm=lm,
        engine=engine,
        snapshot=stepd.snapshot,
        settings=config.evaluation,
        ranking=ranking or ranking_of(config, RunPaths.of(config)),
        effects=stepd.effects,
        alpha_unit=config.injection.alpha_unit,
        stats=config.stats,
        seed=config.seed,
    )
