"""Settings of the groups `evaluation` and `stats`: what Step6 compares with what, and how sure it is of a mean."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fv.config.checks import check_at_least, check_between, check_fraction
from fv.config.group import Group
from fv.errors import ConfigError


class BootstrapMethod(StrEnum):
    """How an interval is read off a bootstrap distribution (`scipy.stats.bootstrap`)."""

    BCa = "BCa"
    percentile = "percentile"
    basic = "basic"


@dataclass
class StatsConfig(Group):
    """Intervals of every reported mean and difference (docs/methods.md)."""

    confidence: float = 0.95
    """Level of the two-sided intervals."""
    n_resamples: int = 10_000
    """Resamples a bootstrap."""
    method: BootstrapMethod = BootstrapMethod.BCa

    def __post_init__(self) -> None:
        check_between("stats.confidence", self.confidence, 0, 1)
        check_at_least("stats.n_resamples", self.n_resamples, 100)


class ControlCell(StrEnum):
    """At which layer and alpha a control is injected."""

    own = "own"
    same = "same"


@dataclass
class ControlsConfig(Group):
    """Where what is injected in the function vector's place is injected."""

    cell: ControlCell = ControlCell.own
    """`own`: the cell that the dev trials choose for the control, as they do for the vector, which favours the control;
    `same`: the vector's cell, which costs less."""
    weaker: list[float] = field(default_factory=lambda: [0.25, 0.0625])
    """Controls and baselines may also choose these shares of the grid's weakest alpha, or not to be injected at all:
    what is compared with the vector must not do harm."""

    def __post_init__(self) -> None:
        if any(not 0 < share < 1 for share in self.weaker):
            raise ConfigError(
                f"evaluation.controls.weaker={self.weaker} must be shares of the weakest alpha, each above 0 and below "
                "1; [] for none."
            )


@dataclass
class EvaluationConfig(Group):
    """How Step6 chooses a layer and an alpha, and what it reports on the trials it kept aside."""

    dev_fraction: float = 0.3
    """Share of a relation's eval trials that choose layer, alpha and k; what is reported is of the others. With 0
    nothing is chosen, so there may be one layer, one alpha and one k only."""
    held_out: bool = True
    """Whether to run the chosen cells again on the others, with everything below."""
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    conditions: dict[str, Any] = field(default_factory=dict)
    """What is run beside the vector: {name of a provider: its settings, with the switch `enabled`}; one that is not
    named has its defaults."""

    def __post_init__(self) -> None:
        check_fraction("evaluation.dev_fraction", self.dev_fraction)

    def become(self, group: str) -> None:
        """`Group.become`, for the settings of each condition too."""
        super().become(group)
        for name, own in self.conditions.items():
            if isinstance(own, Group):
                own.become(self.called(f"conditions.{name}"))
