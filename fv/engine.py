"""Which engine runs a sweep."""

from fv.errors import ConfigError
from fv.expanded_batch import ExpandedBatchSweep
from fv.models.language_model import LanguageModel
from fv.models.spec import FastSweep
from fv.naive import NaiveSweep
from fv.shared_prefix import SharedPrefixSweep
from fv.sweep import Sweep

ENGINE_REVISION = 2
"""Raised by every change that moves the last bits of what an engine computes: units of another one are not mixed in."""


def make_sweep(lm: LanguageModel, mode: str, max_rows: int) -> Sweep:
    """The engine for `compute.sweep=mode`; `auto` is the fastest that the family allows.

    Raises:
        ConfigError: `shared_prefix` was asked of a family whose spec does not allow it.
    """
    engine = lm.spec.sweep if mode == "auto" else mode
    if engine == "naive":
        return NaiveSweep(lm)
    if engine == "expanded":
        return ExpandedBatchSweep(lm, max_rows)
    if lm.spec.sweep is not FastSweep.shared_prefix:
        raise ConfigError(
            f"compute.sweep=shared_prefix is not exact for model.spec={lm.spec.name}. "
            "Use compute.sweep=expanded or naive, or auto to let the spec decide."
        )
    return SharedPrefixSweep(lm, max_rows)
