"""Which engine runs a sweep."""

from fv.errors import ConfigError
from fv.models.language_model import LanguageModel
from fv.naive import NaiveSweep
from fv.shared_prefix import SharedPrefixSweep
from fv.sweep import Sweep


def make_sweep(lm: LanguageModel, mode: str, max_rows: int) -> Sweep:
    """The engine for `compute.sweep=mode`: `naive`, `shared_prefix`, or `auto` for the fastest the family allows.

    Raises:
        ConfigError: `shared_prefix` was asked of a family whose spec does not allow it.
    """
    if mode == "naive" or (mode == "auto" and not lm.spec.shared_prefix):
        return NaiveSweep(lm)
    if not lm.spec.shared_prefix:
        raise ConfigError(
            f"compute.sweep=shared_prefix is not exact for model.spec={lm.spec.name}. "
            "Use compute.sweep=naive, or auto to let the spec decide."
        )
    return SharedPrefixSweep(lm, max_rows)
