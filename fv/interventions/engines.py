"""Which engine runs the edits."""

from fv.config import SweepMode
from fv.errors import ConfigError
from fv.interventions.engine import Engine
from fv.interventions.expanded_batch import ExpandedBatchEngine
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.spec import FastEngine

ENGINE_REVISION = 3
"""Raised by every change that moves the last bits of what an engine computes: units of another one are not mixed in."""


def make_engine(lm: LanguageModel, mode: str, max_rows: int, name: str = "mode") -> Engine:
    """The engine called `mode`; `auto` is the fastest that the family allows.

    Args:
        lm: the model.
        mode: `shared_prefix`, `expanded`, `naive` or `auto`.
        max_rows: most token rows in one pass.
        name: what a message calls `mode`.

    Raises:
        ConfigError: there is no such engine, or `shared_prefix` was asked of a family whose spec does not allow it.
    """
    modes = [each.value for each in SweepMode]
    if mode not in modes:
        raise ConfigError(f"{name}={mode!r} must be one of {', '.join(modes)}.")
    if not isinstance(max_rows, int) or max_rows < 2:
        raise ConfigError(f"max_rows={max_rows!r} must be a whole number of 2 or more.")
    engine = lm.spec.sweep if mode == "auto" else mode
    if engine == "naive":
        return NaiveEngine(lm)
    if engine == "expanded":
        return ExpandedBatchEngine(lm, max_rows)
    if lm.spec.sweep is not FastEngine.shared_prefix:
        raise ConfigError(
            f"{name}=shared_prefix is not exact for models of the spec {lm.spec.name}. "
            f"Use {name}=expanded or naive, or auto to let the spec decide."
        )
    return SharedPrefixEngine(lm, max_rows)
