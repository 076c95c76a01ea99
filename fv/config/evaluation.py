"""Settings of the groups `evaluation` and `stats`: comparisons of Step6, and intervals."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from annotated_types import Ge, Gt, Lt

from fv.config.group import Group, SettingsByName


class BootstrapMethod(StrEnum):
    """Method of an interval from a bootstrap distribution (`scipy.stats.bootstrap`)."""

    BCa = "BCa"
    percentile = "percentile"
    basic = "basic"


@dataclass
class StatsConfig(Group):
    """Intervals of every reported mean and difference (docs/methods.md)."""

    confidence: Annotated[float, Gt(0), Lt(1)] = 0.95
    """Level of the two-sided intervals."""
    n_resamples: Annotated[int, Ge(100)] = 10_000
    """Resamples per bootstrap."""
    method: BootstrapMethod = BootstrapMethod.BCa


class ControlCell(StrEnum):
    """Layer and alpha of a control."""

    own = "own"
    same = "same"


@dataclass
class ControlsConfig(Group):
    """Cells of controls and baselines, which are injected in place of the function vector."""

    cell: ControlCell = ControlCell.own
    """Layer and alpha of a control: `own`, chosen for it on dev trials, which favours the control; `same`, those of the
    vector, which costs less."""
    weaker: list[Annotated[float, Gt(0), Lt(1)]] = field(default_factory=lambda: [0.25, 0.0625])
    """Shares of the grid's weakest alpha that controls and baselines may choose, too, besides no injection: they must
    not do harm. [] for none."""


@dataclass
class EvaluationConfig(Group):
    """Choice of layer, alpha and k on dev trials, and the conditions on test trials."""

    dev_fraction: Annotated[float, Ge(0), Lt(1)] = 0.3
    """Share of a relation's eval trials that choose layer, alpha and k; results are reported on the others. With 0,
    there is no choice: give one layer, one alpha and one k."""
    held_out: bool = True
    """Run the chosen cells on the test trials, with controls, baselines and all other conditions."""
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    conditions: SettingsByName = field(default_factory=dict)
    """Conditions compared with the vector: {name: settings, with the switch `enabled`}; a condition that is not named
    has its defaults."""
