"""Settings of the group `score`: how heads are scored, ranked and chosen."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fv.config.checks import check_at_least, check_between, check_qids, parse_indices
from fv.config.group import Group


class ScoreKey(StrEnum):
    """The column that ranks heads."""

    mean_delta_logprob = "mean_delta_logprob"
    mean_delta_p = "mean_delta_p"


@dataclass
class ScoreConfig(Group):
    """How heads are scored and chosen."""

    key: ScoreKey = ScoreKey.mean_delta_logprob
    """Column that ranks heads."""
    k: int = 10
    """Heads that make a function vector."""
    layers: Any = "all"
    """Layers StepD sweeps: `all`, one, or a list."""
    heads: Any = "all"
    """Heads StepD sweeps in those layers: `all`, one, or a list."""
    n_trials: int | None = None
    """Fit trials a relation that are patched; null means all. With `adaptive`, at most so many."""
    adaptive: bool = False
    """Patch trials, `adaptive_step` at a time, until the top-k heads are stable or `n_trials` are done."""
    adaptive_step: int = 6
    """Trials between two looks at the ranking."""
    adaptive_inclusion: float = 0.9
    """Stable means: on average over the top-k heads, a bootstrap of the trials ranks them there this often."""
    aie_qids: list[str] | None = None
    """When given, StepE also averages CIE over this subset into `artifacts/aie/<aie_id>/`."""
    aie_fv: bool = True
    """Whether the subset's package holds its function vector too."""
    aie_leave_one_out: bool = False
    """Whether the AIE whose heads make a relation's `aie_qid` vector is over the other relations only."""

    def __post_init__(self) -> None:
        check_at_least("score.k", self.k, 1)
        check_at_least("score.n_trials", self.n_trials, 1)
        check_at_least("score.adaptive_step", self.adaptive_step, 2)
        check_between("score.adaptive_inclusion", self.adaptive_inclusion, 0, 1)
        self.layers = parse_indices("score.layers", self.layers)
        self.heads = parse_indices("score.heads", self.heads)
        self.aie_qids = check_qids("score.aie_qids", self.aie_qids)
