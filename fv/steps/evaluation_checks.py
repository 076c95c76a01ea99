"""Checks of evaluations, made before anything is computed."""

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
    """Refuse an evaluation that could not be finished.

    Args:
        evaluation: the settings of the evaluation.
        injection: the settings of the injection.
        analyses: {name: analysis} of the named analyses.
        cells: the layers and alphas; None for all layers of a model that is not loaded.

    Raises:
        ConfigError: there are no trials to choose among cells on, or the settings of an analysis are not possible.
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
