"""Settings of the groups `injection` and `eval_scope`: the injected vectors, and the relations of their evaluation."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge

from fv.config.checks import check_qids, parse_alphas, parse_indices, parse_ks
from fv.config.group import Group
from fv.errors import ConfigError

KINDS = ("global", "qid", "all_qids", "aie_qid", "file")
"""Kinds of vectors that `injection.fv` may name."""


class AlphaUnit(StrEnum):
    """Unit of alpha."""

    vector = "vector"
    """The vector itself."""
    residual = "residual"
    """The mean norm of the residual stream at the layer and relation."""


class ScopeMode(StrEnum):
    """Relations that a vector is evaluated on."""

    auto = "auto"
    """`in_domain` for a relation's vector, `all_qids` for any other."""
    in_domain = "in_domain"
    """The vector's own relation."""
    all_qids = "all_qids"
    """All relations of the run."""
    qid_list = "qid_list"
    """The relations of `eval_scope.qids`."""


@dataclass
class InjectionConfig(Group):
    """Injected vectors, their layers, and their strengths."""

    fv: Any = "all_qids"
    """Kind of vectors: `all_qids`, each relation's own; `qid`, one relation's (`fv_source_qid`); `aie_qid`, each
    relation's means in the AIE's heads, as in the paper; `global`, means over relations in the same heads; `file`
    (`fv_path`); or a list of these."""
    fv_source_qid: str | None = None
    """Relation of the vector of `fv=qid` or `aie_qid`; with `fv=file`, the relation of the file's vector, if any."""
    fv_path: str | None = None
    """File with one (d_model,) vector (`.pt`), for `fv=file`."""
    layer: Any = "all"
    """Blocks after which the vector is added, counted from 0: `all`, one, or a list."""
    alpha: Any = 1.0
    """Factors of the vector: one, or a list."""
    alpha_unit: AlphaUnit = AlphaUnit.vector
    """Unit of alpha: the `vector` itself, or the mean norm of the `residual` stream at the layer and relation, which
    makes models comparable."""
    k: Any = None
    """Numbers of heads: for each k, a vector of the k best heads of one ranking; null means StepE's vectors."""
    n_eval: Annotated[int, Ge(1)] | None = None
    """Maximal number of eval trials per relation; null means all."""
    quick_eval: bool = False
    """Evaluate the global vector in StepE already, into `stepE_eval.json`."""

    def validate(self) -> None:
        super().validate()
        self.layer = parse_indices(self.called("layer"), self.layer)
        self.alpha = parse_alphas(self.called("alpha"), self.alpha)
        self.k = parse_ks(self.called("k"), self.k)
        self.fv = parse_kinds(self.called("fv"), self.fv)
        self._check_vectors()

    def _check_vectors(self) -> None:
        """Refuse kinds of vectors that lack a setting or contradict one."""
        fv, source, path = map(self.called, ("fv", "fv_source_qid", "fv_path"))
        if "qid" in self.fvs and not self.fv_source_qid:
            raise ConfigError(f"{fv}=qid needs {source}=<q_id>.")
        if {"qid", "all_qids"} <= {*self.fvs}:
            raise ConfigError(f"{fv}=[qid,all_qids] names a relation's vector twice; all_qids includes it.")
        if ("file" in self.fvs) != (self.fv_path is not None):
            raise ConfigError(f"{fv}=file and {path}=<file.pt> go together.")
        if self.k is not None and "file" in self.fvs:
            raise ConfigError(f"{self.called('k')} makes vectors of ranked heads, and {fv}=file takes one from a file.")
        if self.fv_source_qid and not {"qid", "aie_qid", "file"} & {*self.fvs}:
            raise ConfigError(
                f"{source}={self.fv_source_qid} has no effect with {fv}={shown_kinds(self.fv)}; "
                f"use {fv}=qid for that relation's vector."
            )

    @property
    def fvs(self) -> list[str]:
        """The kinds of vectors, always as a list."""
        return self.fv if isinstance(self.fv, list) else [self.fv]


def parse_kinds(key: str, value: Any) -> str | list[str]:
    """Check one of `KINDS`, or a list of different ones."""
    kinds = value if isinstance(value, list) else [value]
    if not kinds or any(kind not in KINDS for kind in kinds) or len(set(kinds)) < len(kinds):
        raise ConfigError(f"{key}={value!r} must be one of {', '.join(KINDS)}, or a list of different ones.")
    return kinds if len(kinds) > 1 else kinds[0]


def shown_kinds(fv: str | list[str]) -> str:
    """Kinds of vectors, as they are typed on a command line."""
    return f"[{','.join(fv)}]" if isinstance(fv, list) else fv


@dataclass
class EvalScopeConfig(Group):
    """Relations that a vector is evaluated on."""

    mode: ScopeMode = ScopeMode.auto
    """Relations that a vector is evaluated on: `in_domain`, its own; `all_qids`, all, for the transfer matrix;
    `qid_list`, those in `qids`; `auto`, its own if it has one, else all."""
    qids: list[str] | None = None
    """Relations of `qid_list`."""

    def validate(self) -> None:
        super().validate()
        # In a run, the group itself names the mode: `eval_scope=qid_list`.
        mode, qids = self.group or "mode", self.called("qids")
        self.qids = check_qids(qids, self.qids)
        if (self.mode is ScopeMode.qid_list) != (self.qids is not None):
            raise ConfigError(
                f"{mode}=qid_list and {qids}=[a,b] go together; given: {mode}={self.mode.value}, {qids}={self.qids}. "
                f"Scopes are {', '.join(m.value for m in ScopeMode)}."
            )
