"""Settings of the group `score`: how heads are scored, ranked and chosen."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from fv.config.checks import check_qids, parse_indices
from fv.config.group import Group
from fv.errors import ConfigError


class ScoreKey(StrEnum):
    """The column that ranks heads."""

    mean_delta_logprob = "mean_delta_logprob"
    mean_delta_p = "mean_delta_p"


class Screen(StrEnum):
    """Whether all heads are measured, or those that a first-order estimate of their effects picks."""

    none = "none"
    """All heads are measured."""
    gradient = "gradient"
    """By the gradient at the prompt as it is."""
    integrated = "integrated"
    """By the mean gradient on the way from the heads' own outputs to the values that are patched in."""


VERIFY_EACH = 4
"""Heads that are verified for each head of a vector, where `verify` does not say how many."""


@dataclass
class ScoreConfig(Group):
    """How heads are scored and chosen."""

    key: ScoreKey = ScoreKey.mean_delta_logprob
    """Column that ranks heads."""
    k: Annotated[int, Ge(1)] = 10
    """Heads that make a function vector."""
    layers: Any = "all"
    """Layers StepD sweeps: `all`, one, or a list."""
    heads: Any = "all"
    """Heads StepD sweeps in those layers: `all`, one, or a list."""
    n_trials: Annotated[int, Ge(1)] | None = None
    """Fit trials a relation that are patched; null means all. With `adaptive`, at most so many."""
    adaptive: bool = False
    """Patch trials, `adaptive_step` at a time, until the top-k heads are stable or `n_trials` are done."""
    adaptive_step: Annotated[int, Ge(2)] = 6
    """Trials between two looks at the ranking."""
    adaptive_inclusion: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Stable means: the k heads that a bootstrap of the trials most often ranks among the top k are there, on average,
    this often."""
    screen: Screen = Screen.none
    """Estimate all heads' effects first, and measure the best by estimate only; none measures all."""
    screen_points: Annotated[int, Ge(1)] = 2
    """Points on the way of `screen=integrated`; on SmolLM2 four find no more of the ten best heads (docs/engine.md)."""
    verify: Annotated[int, Ge(1)] | None = None
    """With `screen`, heads that are measured of each ranking by estimate; null means 4 times `k`. A quarter as many of
    the most negative are measured, too."""
    verify_random: Annotated[int, Ge(0)] = 32
    """With `screen`, other heads that are measured, drawn at random: what says how many the estimates may have missed.
    """
    verify_max: int | None = None
    """With `screen`, the most that `verify` is doubled to where a random head enters the top k; null means all heads,
    for more than the sweep of all heads it never takes."""
    aie_qids: list[str] | None = None
    """When given, StepE also averages CIE over this subset into `artifacts/aie/<aie_id>/`."""
    aie_fv: bool = True
    """Whether the subset's package holds its function vector too."""
    aie_leave_one_out: bool = False
    """Whether the AIE whose heads make a relation's `aie_qid` vector is over the other relations only."""

    def validate(self) -> None:
        super().validate()
        self._check_verified()
        self.layers = parse_indices(self.called("layers"), self.layers)
        self.heads = parse_indices(self.called("heads"), self.heads)
        self.aie_qids = check_qids(self.called("aie_qids"), self.aie_qids)

    @property
    def n_verify(self) -> int:
        """How many heads of each ranking by estimate are measured at first."""
        return VERIFY_EACH * self.k if self.verify is None else self.verify

    @property
    def points(self) -> int | None:
        """Points on the way along which gradients are integrated; None where they are not."""
        return self.screen_points if self.screen is Screen.integrated else None

    def _check_verified(self) -> None:
        """Refuse fewer verified heads than a vector is made of, or a bound below them."""
        if self.screen is Screen.none:
            return
        if self.verify is not None and self.verify < self.k:
            raise ConfigError(f"{self.called('verify')}={self.verify} must be {self.called('k')}={self.k} or more.")
        if self.verify_max is not None and self.verify_max < self.n_verify:
            least = f"{VERIFY_EACH} times {self.called('k')}" if self.verify is None else self.called("verify")
            raise ConfigError(
                f"{self.called('verify_max')}={self.verify_max} must be {self.n_verify} or more, which is {least}."
            )
