"""The choice of the engine that runs edits."""

from functools import partial

from fv.config import SweepMode
from fv.config.checks import AUTO, check_max_rows
from fv.errors import ConfigError, one_of
from fv.interventions.expanded_batch import ExpandedBatchEngine
from fv.interventions.halving import HalvingEngine
from fv.interventions.memory import rows_that_fit
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.spec import FastEngine

ENGINE_REVISION = 4
"""Increased by every change of the last bits of an engine's results: units of different revisions are not mixed."""


def make_engine(lm: LanguageModel, mode: str, max_rows: int | str, name: str = "mode") -> HalvingEngine:
    """Make the engine called `mode`; `auto` is the fastest that the family allows.

    Its passes get smaller when memory runs out.

    Args:
        lm: the model.
        mode: `shared_prefix`, `expanded`, `naive` or `auto`.
        max_rows: most token rows in one pass; `auto` takes as many as fit in the memory that is free now.
        name: the name of `mode` in messages.

    Raises:
        ConfigError: there is no such engine, `shared_prefix` is requested for a family whose spec does not allow it,
            or the free memory is not known.
    """
    one_of(name, mode, SweepMode)
    check_max_rows("max_rows", max_rows)
    rows = rows_that_fit(lm) if max_rows == AUTO else int(max_rows)
    engine = lm.spec.sweep if mode == "auto" else mode
    if engine == "naive":
        return HalvingEngine(lm, lambda _: NaiveEngine(lm), rows)
    if engine == "expanded":
        return HalvingEngine(lm, partial(ExpandedBatchEngine, lm), rows)
    if lm.spec.sweep is not FastEngine.shared_prefix:
        raise ConfigError(
            f"{name}=shared_prefix is not exact for models of the spec {lm.spec.name}. "
            f"Use {name}=expanded or naive, or auto to let the spec decide."
        )
    return HalvingEngine(lm, partial(SharedPrefixEngine, lm), rows)
