"""Settings of the groups `injection` and `eval_scope`: which vector goes where, and into which relations."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge

from fv.config.checks import check_qids, parse_alphas, parse_indices, parse_ks
from fv.config.group import Group
from fv.errors import ConfigError

KINDS = ("global", "qid", "all_qids", "aie_qid", "file")
"""What `injection.fv` may name."""


class AlphaUnit(StrEnum):
    """What alpha is a multiple of."""

    vector = "vector"
    residual = "residual"


class ScopeMode(StrEnum):
    """Which relations a vector is evaluated on."""

    auto = "auto"
    in_domain = "in_domain"
    all_qids = "all_qids"
    qid_list = "qid_list"


@dataclass
class InjectionConfig(Group):
    """Which vector is injected, where, how strongly."""

    fv: Any = "all_qids"
    """`all_qids`, each relation's own vector; `qid`, one relation's (with `fv_source_qid`); `aie_qid`, each relation's
    clean means in the heads of the AIE, as the paper has it; `global`, those heads with the mean over relations; `file`
    (with `fv_path`); or a list of these."""
    fv_source_qid: str | None = None
    """The relation whose vector `fv=qid` or `aie_qid` injects; with `fv=file`, the relation the file's vector is of, if
    any."""
    fv_path: str | None = None
    """A `.pt` file with one (d_model,) vector, for `fv=file`."""
    layer: Any = "all"
    """Blocks behind which the vector is added: `all`, one, or a list."""
    alpha: Any = 1.0
    """Factors on the vector: one, or a list."""
    alpha_unit: AlphaUnit = AlphaUnit.vector
    """What alpha is a multiple of: the `vector` as it is, or the mean norm of the `residual` stream at the layer and
    relation, which compares across models."""
    k: Any = None
    """Numbers of heads: one vector for each, of the best heads of one ranking; null means StepE's own vectors."""
    n_eval: Annotated[int, Ge(1)] | None = None
    """At most this many eval trials a relation; null means all."""
    quick_eval: bool = False
    """Whether StepE evaluates the global vector at once, into `stepE_eval.json`."""

    def validate(self) -> None:
        super().validate()
        self.layer = parse_indices(self.called("layer"), self.layer)
        self.alpha = parse_alphas(self.called("alpha"), self.alpha)
        self.k = parse_ks(self.called("k"), self.k)
        self.fv = parse_kinds(self.called("fv"), self.fv)
        self._check_vectors()

    def _check_vectors(self) -> None:
        """Refuse kinds of vectors that lack what they need, or contradict it."""
        fv, source, path = map(self.called, ("fv", "fv_source_qid", "fv_path"))
        if "qid" in self.fvs and not self.fv_source_qid:
            raise ConfigError(f"{fv}=qid needs {source}=<q_id>.")
        if {"qid", "all_qids"} <= {*self.fvs}:
            raise ConfigError(f"{fv}=[qid,all_qids] names a relation's vector twice; all_qids has it.")
        if ("file" in self.fvs) != (self.fv_path is not None):
            raise ConfigError(f"{fv}=file and {path}=<file.pt> go together.")
        if self.k is not None and "file" in self.fvs:
            raise ConfigError(f"{self.called('k')} makes vectors of ranked heads, and {fv}=file takes one from a file.")
        if self.fv_source_qid and not {"qid", "aie_qid", "file"} & {*self.fvs}:
            raise ConfigError(
                f"{source}={self.fv_source_qid} says nothing about {fv}={shown_kinds(self.fv)}; "
                f"use {fv}=qid for that relation's vector."
            )

    @property
    def fvs(self) -> list[str]:
        """The kinds of vectors, whether one or several are configured."""
        return self.fv if isinstance(self.fv, list) else [self.fv]


def parse_kinds(key: str, value: Any) -> str | list[str]:
    """One of `KINDS`, or a list of different ones."""
    kinds = value if isinstance(value, list) else [value]
    if not kinds or any(kind not in KINDS for kind in kinds) or len(set(kinds)) < len(kinds):
        raise ConfigError(f"{key}={value!r} must be one of {', '.join(KINDS)}, or a list of different ones.")
    return kinds if len(kinds) > 1 else kinds[0]


def shown_kinds(fv: str | list[str]) -> str:
    """Kinds of vectors as the command line has them."""
    return f"[{','.join(fv)}]" if isinstance(fv, list) else fv


@dataclass
class EvalScopeConfig(Group):
    """Which relations a vector is evaluated on."""

    mode: ScopeMode = ScopeMode.auto
    """`auto`: `in_domain` for a relation's vector, `all_qids` for any other; with `all_qids`, relations' vectors make
    the transfer matrix."""
    qids: list[str] | None = None
    """The relations of `qid_list`."""

    def validate(self) -> None:
        super().validate()
        # A run chooses the mode by the name of the group: `eval_scope=qid_list`.
        mode, qids = self.group or "mode", self.called("qids")
        self.qids = check_qids(qids, self.qids)
        if (self.mode is ScopeMode.qid_list) != (self.qids is not None):
            raise ConfigError(
                f"{mode}=qid_list and {qids}=[a,b] go together; given: {mode}={self.mode.value}, {qids}={self.qids}. "
                f"Scopes are {', '.join(m.value for m in ScopeMode)}."
            )
