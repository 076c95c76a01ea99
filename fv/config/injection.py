"""Settings of the groups `injection` and `eval_scope`: which vector goes where, and into which relations."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any

from fv.checks import check_at_least, check_qids, parse_alphas, parse_indices, parse_ks
from fv.errors import ConfigError

# `global` is a Python keyword, so this one is made by call.
FvChoice = Enum("FvChoice", {"global": "global", "qid": "qid", "all_qids": "all_qids", "file": "file"}, type=str)


class ScopeMode(StrEnum):
    """Which relations a vector is evaluated on."""

    auto = "auto"
    in_domain = "in_domain"
    all_qids = "all_qids"
    qid_list = "qid_list"


@dataclass
class InjectionConfig:
    """Which vector is injected, where, how strongly."""

    fv: FvChoice = FvChoice["global"]
    """`global`, `qid` (with `fv_source_qid`), `all_qids` (the transfer matrix) or `file` (with `fv_path`)."""
    fv_source_qid: str | None = None
    """The relation whose vector `fv=qid` injects; with `fv=file`, the relation the file's vector is of, if any."""
    fv_path: str | None = None
    """A `.pt` file with one (d_model,) vector, for `fv=file`."""
    layer: Any = "all"
    """Blocks behind which the vector is added: `all`, one, or a list."""
    alpha: Any = 1.0
    """Factors on the vector: one, or a list."""
    k: Any = None
    """Numbers of heads: one vector for each, of the best heads of one ranking; null means StepE's own vectors."""
    n_eval: int | None = None
    """At most this many eval trials a relation; null means all."""
    quick_eval: bool = False
    """Whether StepE evaluates the global vector at once, into `stepE_eval.json`."""

    def __post_init__(self) -> None:
        self.layer = parse_indices("injection.layer", self.layer)
        self.alpha = parse_alphas(self.alpha)
        self.k = parse_ks("injection.k", self.k)
        check_at_least("injection.n_eval", self.n_eval, 1)
        if self.fv is FvChoice.qid and not self.fv_source_qid:
            raise ConfigError("injection.fv=qid needs injection.fv_source_qid=<q_id>.")
        if (self.fv is FvChoice.file) != (self.fv_path is not None):
            raise ConfigError("injection.fv=file and injection.fv_path=<file.pt> go together.")
        if self.k is not None and self.fv is FvChoice.file:
            raise ConfigError("injection.k makes vectors of ranked heads, and injection.fv=file takes one from a file.")
        if self.fv_source_qid and self.fv in (FvChoice["global"], FvChoice.all_qids):
            raise ConfigError(
                f"injection.fv_source_qid={self.fv_source_qid} says nothing about injection.fv={self.fv.value}; "
                "use injection.fv=qid for that relation's vector."
            )


@dataclass
class EvalScopeConfig:
    """Which relations a vector is evaluated on."""

    mode: ScopeMode = ScopeMode.auto
    """`auto`: `in_domain` for a relation's own vector, `all_qids` otherwise."""
    qids: list[str] | None = None
    """The relations of `qid_list`."""

    def __post_init__(self) -> None:
        self.qids = check_qids("eval_scope.qids", self.qids)
        if (self.mode is ScopeMode.qid_list) != (self.qids is not None):
            raise ConfigError(
                "eval_scope=qid_list and eval_scope.qids=[a,b] go together; "
                f"given: eval_scope={self.mode.value}, eval_scope.qids={self.qids}. "
                f"Scopes are {', '.join(m.value for m in ScopeMode)}."
            )
