"""Settings of the groups `evaluation` and `stats`: what Step6 compares with what, and how sure it is of a mean."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from fv.config.group import Group


class BootstrapMethod(StrEnum):
    """How an interval is read off a bootstrap distribution (`scipy.stats.bootstrap`)."""

    BCa = "BCa"
    percentile = "percentile"
    basic = "basic"


@dataclass
class StatsConfig(Group):
    """Intervals of every reported mean and difference (docs/methods.md)."""

    confidence: Annotated[float, Gt(0), Lt(1)] = 0.95
    """Level of the two-sided intervals."""
    n_resamples: Annotated[int, Ge(100)] = 10_000
    """Resamples a bootstrap."""
    method: BootstrapMethod = BootstrapMethod.BCa


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
    weaker: list[Annotated[float, Gt(0), Lt(1)]] = field(default_factory=lambda: [0.25, 0.0625])
    """Controls and baselines may also choose these shares of the grid's weakest alpha, or not to be injected at all:
    what is compared with the vector must not do harm. [] for none."""


@dataclass
class EvaluationConfig(Group):
    """How Step6 chooses a layer and an alpha, and what it reports on the trials it kept aside."""

    dev_fraction: Annotated[float, Ge(0), Lt(1)] = 0.3
    """Share of a relation's eval trials that choose layer, alpha and k; what is reported is of the others. With 0
    nothing is chosen, so there may be one layer, one alpha and one k only."""
    held_out: bool = True
    """Whether to run the chosen cells again on the others, with everything below."""
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    conditions: dict[str, Any] = field(default_factory=dict)
    """What is run beside the vector: {name of a provider: its settings, with the switch `enabled`}; one that is not
    named has its defaults."""
