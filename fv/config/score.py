"""Settings of the group `score`: scores, ranking and choice of heads."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge, Gt, Lt

from fv.config.checks import check_qids, parse_indices
from fv.config.group import Group
from fv.errors import ConfigError


class ScoreKey(StrEnum):
    """Column that ranks heads."""

    mean_delta_logprob = "mean_delta_logprob"
    mean_delta_p = "mean_delta_p"


class Screen(StrEnum):
    """First-order estimate of effects that selects the heads to measure, or none."""

    none = "none"
    """All heads are measured."""
    gradient = "gradient"
    """An estimate by the gradient at the prompt itself."""
    integrated = "integrated"
    """An estimate by the mean gradient on the path from the heads' outputs to the patched values."""


VERIFY_EACH = 4
"""Number of verified heads per head of a vector, if `verify` is null."""


@dataclass
class ScoreConfig(Group):
    """Scores, ranking and choice of heads."""

    key: ScoreKey = ScoreKey.mean_delta_logprob
    """Column that ranks heads."""
    k: Annotated[int, Ge(1)] = 10
    """Number of heads of a function vector."""
    layers: Any = "all"
    """Layers that StepD sweeps: `all`, one, or a list."""
    heads: Any = "all"
    """Heads that StepD sweeps in these layers: `all`, one, or a list."""
    n_trials: Annotated[int, Ge(1)] | None = None
    """Fit trials per relation that are patched, or with `adaptive` at most; null means all."""
    adaptive: bool = False
    """Patch trials, `adaptive_step` at a time, until the top-k heads are stable or `n_trials` are done."""
    adaptive_step: Annotated[int, Ge(2)] = 6
    """Trials between two checks of the ranking."""
    adaptive_inclusion: Annotated[float, Gt(0), Lt(1)] = 0.9
    """Share that makes a ranking stable: in a bootstrap of the trials, the k most frequent top-k heads are in the top k
    this often on average."""
    screen: Screen = Screen.none
    """Estimate the effects of all heads first, and measure only the best by estimate; `none` measures all heads."""
    screen_points: Annotated[int, Ge(1)] = 2
    """Points on the path of `screen=integrated`; on SmolLM2, four points find no more of the ten best heads than two
    (docs/engine.md)."""
    verify: Annotated[int, Ge(1)] | None = None
    """With `screen`, number of best heads by estimate to measure per ranking; null means 4 times `k`. A quarter as many
    of the most negative heads are measured, too."""
    verify_random: Annotated[int, Ge(0)] = 32
    """With `screen`, number of other heads to measure, drawn at random; they show how many heads estimates may miss."""
    verify_max: int | None = None
    """With `screen`, upper limit of `verify`, which doubles as long as a random head enters the top k; null means all
    heads."""
    aie_qids: list[str] | None = None
    """Subset of relations over which StepE also averages CIE, into `artifacts/aie/<aie_id>/`; null means none."""
    aie_fv: bool = True
    """Include the function vector in the package of the AIE subset."""
    aie_leave_one_out: bool = False
    """Choose the heads of a relation's `aie_qid` vector by the AIE over the other relations only."""

    def validate(self) -> None:
        super().validate()
        self._check_verified()
        self.layers = parse_indices(self.called("layers"), self.layers)
        self.heads = parse_indices(self.called("heads"), self.heads)
        self.aie_qids = check_qids(self.called("aie_qids"), self.aie_qids)

    @property
    def n_verify(self) -> int:
        """Number of best heads by estimate that are measured first, per ranking."""
        return VERIFY_EACH * self.k if self.verify is None else self.verify

    @property
    def points(self) -> int | None:
        """Number of points on the path of integrated gradients; None if gradients are not integrated."""
        return self.screen_points if self.screen is Screen.integrated else None

    def _check_verified(self) -> None:
        """Refuse fewer verified heads than a vector has, or an upper limit below the verified heads."""
        if self.screen is Screen.none:
            return
        if self.verify is not None and self.verify < self.k:
            raise ConfigError(f"{self.called('verify')}={self.verify} must be {self.called('k')}={self.k} or more.")
        if self.verify_max is not None and self.verify_max < self.n_verify:
            least = f"{VERIFY_EACH} times {self.called('k')}" if self.verify is None else self.called("verify")
            raise ConfigError(
                f"{self.called('verify_max')}={self.verify_max} must be {self.n_verify} or more, which is {least}."
            )
