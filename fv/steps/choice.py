"""The refusal of evaluations that could choose nothing."""

from collections.abc import Mapping, Sequence

from fv.analyses import Analysis
from fv.config import EvaluationConfig, InjectionConfig
from fv.errors import ConfigError
from fv.interventions.engine import Cell


def refuse_unfit_evaluation(
    evaluation: EvaluationConfig,
    injection: InjectionConfig,
    analyses: Mapping[str, Analysis],
    cells: Sequence[Cell] | None,
) -> None:
    """Refuse, before anything is computed, what could not be evaluated afterwards.

    Args:
        evaluation: the settings.
        injection: the settings.
        analyses: {name: analysis} of those that are named.
        cells: its layers and alphas; None for all layers of a model that is not loaded.

    Raises:
        ConfigError: a choice would have no trials to be made on, or an analysis cannot be made as it is set.
    """
    if not evaluation.dev_fraction and (cells is None or len(cells) > 1 or len(injection.k or []) > 1):
        count = "all" if cells is None else len(cells)
        raise ConfigError(
            f"evaluation.dev_fraction=0 leaves no trials to choose one of {count} cells on. Give a fraction, or "
            "one injection.layer, one injection.alpha and at most one injection.k; or evaluation=grid for all cells "
            "without a choice."
        )
    for analysis in analyses.values():
        if analysis.after == "Step6":
            analysis.check()
