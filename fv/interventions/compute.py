"""Compute: settings of how the library's functions run a model, never of what they compute."""

from dataclasses import dataclass
from typing import Any

from fv.config import ComputeConfig, SweepMode
from fv.config.checks import check_max_rows
from fv.errors import ConfigError
from fv.interventions.engines import make_engine
from fv.interventions.halving import HalvingEngine
from fv.models.language_model import LanguageModel


@dataclass(frozen=True)
class Compute:
    """Settings of how a model is run: speed, memory and display. Results depend on them by rounding only.

    Attributes:
        engine: `shared_prefix`, `expanded` (any family), `naive` (one forward per edit), or `auto`: the fastest engine
            that is exact for the model's family.
        max_rows: largest number of token rows in one pass, which limits memory; `auto` takes what fits half of the free
            memory.
        keep_mb: megabytes for keeping prompts in memory between the estimates and the effects of a screen; prompts that
            do not fit run twice. It changes no number.
        progress: whether to show progress bars on a terminal.

    Raises:
        ConfigError: a value is out of range.

    Example:
        >>> compute = fv.Compute(engine="naive", progress=False)
        >>> fv.indirect_effects(lm, trials, layers=11, heads=0, compute=compute)["antonym"].table.shape
        (1, 6)
    """

    engine: str = SweepMode.auto.value
    max_rows: int | str = ComputeConfig.max_rows
    keep_mb: int = ComputeConfig.keep_mb
    progress: bool = True

    def __post_init__(self) -> None:
        engines = [mode.value for mode in SweepMode]
        if self.engine not in engines:
            raise ConfigError(f"engine={self.engine!r} must be one of {', '.join(engines)}.")
        check_max_rows("max_rows", self.max_rows)
        if isinstance(self.keep_mb, bool) or not isinstance(self.keep_mb, int) or self.keep_mb < 0:
            raise ConfigError(f"keep_mb={self.keep_mb!r} must be a whole number of 0 or more.")
        if not isinstance(self.progress, bool):
            raise ConfigError(f"progress={self.progress!r} must be True or False.")

    def engine_for(self, lm: LanguageModel) -> HalvingEngine:
        """Build the engine for a model.

        Raises:
            ConfigError: the model's family does not allow this engine, or the free memory is not known.
        """
        return make_engine(lm, self.engine, self.max_rows, "engine")


DEFAULT = Compute()
"""Settings of a caller who gives none."""


def checked_compute(compute: Any) -> Compute:
    """Return `compute` if it is a `Compute`.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(compute, Compute):
        raise ConfigError(f"compute is a {type(compute).__name__}; pass fv.Compute(engine=…, max_rows=…, progress=…).")
    return compute
