"""Whether Step6 can choose among the cells that it has."""

from collections.abc import Sequence

from fv.config import Config
from fv.errors import ConfigError
from fv.interventions.engine import Cell
from fv.steps.analyses import analyses_after


def refuse_unfit_evaluation(config: Config, cells: Sequence[Cell] | None) -> None:
    """Refuse, before anything is computed, what could not be evaluated afterwards.

    Args:
        config: the configuration.
        cells: its layers and alphas; None for all layers of a model that is not loaded.

    Raises:
        ConfigError: a choice would have no trials to be made on, or an analysis cannot be made as it is set.
    """
    evaluation = config.evaluation
    if not evaluation.dev_fraction and (cells is None or len(cells) > 1 or len(config.injection.k or []) > 1):
        count = "all" if cells is None else len(cells)
        raise ConfigError(
            f"evaluation.dev_fraction=0 leaves no trials to choose one of {count} cells on. Give a fraction, or "
            "one injection.layer, one injection.alpha and at most one injection.k; or evaluation=grid for all cells "
            "without a choice."
        )
    for analysis in analyses_after("Step6", config).values():
        analysis.check()
