"""The evaluation that a run's settings ask for."""

from fv.config import Config
from fv.evaluation.plan import Evaluation
from fv.heads.ranking import Ranking
from fv.interventions.engine import Engine
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults, ranking_of
from fv.units import NO_UNITS, UnitStore


def evaluation_of(
    name: str,
    config: Config,
    lm: LanguageModel,
    engine: Engine,
    stepd: StepdResults,
    units: UnitStore = NO_UNITS,
    ranking: Ranking | None = None,
) -> Evaluation:
    """The evaluation of `config` on what StepD found.

    Args:
        name: what its progress bar is called.
        config: the configuration of the whole grid.
        lm: the model.
        engine: runs its prompts.
        stepd: StepD's artifacts.
        units: finished pieces, to read and to add to.
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
        units=units,
        name=name,
    )
