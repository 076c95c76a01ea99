"""Settings of the groups `injection` and `eval_scope`: the injected vectors, and the relations of their evaluation."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from annotated_types import Ge

from fv.config.checks import check_qids, parse_alphas, parse_indices, parse_ks
from fv.config.group import Group
from fv.errors import ConfigError


@dataclass(frozen=True)
class VectorChoice:
    """A value of `injection.fv`: vectors of one kind.

    Attributes:
        name: the value.
        kind: the kind of its vectors (`fv.vectors.kinds`).
        of_relation: True for one vector per relation.
        takes_source: True if `fv_source_qid` may name the only relation.
        needs_source: True if it has to.
        from_file: True if the vector is in a file of the user.
        is_made: True if a maker makes the vectors, from its settings in `makers`.
    """

    name: str
    kind: str
    of_relation: bool = True
    takes_source: bool = False
    needs_source: bool = False
    from_file: bool = False
    is_made: bool = False

    @property
    def is_ranked(self) -> bool:
        """True if the vectors are StepE's, made of ranked heads."""
        return not (self.from_file or self.is_made)

    def has_relation(self, source_qid: str | None) -> bool:
        """True if each of its vectors belongs to a relation, if `fv_source_qid` is `source_qid`."""
        return self.of_relation or (self.takes_source and source_qid is not None)


_CHOICES = (
    VectorChoice("global", "global", of_relation=False),
    VectorChoice("qid", "qid", takes_source=True, needs_source=True),
    VectorChoice("all_qids", "qid"),
    VectorChoice("aie_qid", "aie_qid", takes_source=True),
    VectorChoice("file", "file", of_relation=False, takes_source=True, from_file=True),
)
KINDS = tuple(choice.name for choice in _CHOICES)
"""Values of `injection.fv` that name no maker."""


def choice_of(name: str) -> VectorChoice:
    """The choice of vectors that a value of `injection.fv` names: one of `KINDS`, or else a maker's vectors."""
    known = {choice.name: choice for choice in _CHOICES}
    return known.get(name) or VectorChoice(name, name, takes_source=True, is_made=True)


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
    (`fv_path`); the name of a maker, such as `mean_difference`, each relation's vector by it; or a list of these."""
    fv_source_qid: str | None = None
    """Relation of the vector of `fv=qid`, `aie_qid` or a maker; with `fv=file`, the relation of the file's vector, if
    any."""
    fv_path: str | None = None
    """File with one (d_model,) vector (`.pt`), for `fv=file`."""
    makers: dict[str, Any] = field(default_factory=dict)
    """Settings of the makers that `fv` names: {maker: {setting: value}}."""
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
        choices = self.choices
        if not self.fv_source_qid and (needy := next((each.name for each in choices if each.needs_source), None)):
            raise ConfigError(f"{fv}={needy} needs {source}=<q_id>.")
        if len({each.kind for each in choices}) < len(choices):
            raise ConfigError(f"{fv}={shown_kinds(self.fv)} names a relation's vector twice; all_qids includes it.")
        if any(each.from_file for each in choices) != (self.fv_path is not None):
            raise ConfigError(f"{fv}=file and {path}=<file.pt> go together.")
        if self.k is not None and (other := next((each for each in choices if not each.is_ranked), None)):
            how = "takes one from a file" if other.from_file else "is a maker, whose heads have no such ranking"
            raise ConfigError(f"{self.called('k')} makes vectors of ranked heads, and {fv}={other.name} {how}.")
        if self.makers and (idle := sorted({*self.makers} - {each.name for each in choices if each.is_made})):
            settings = self.called("makers")
            raise ConfigError(
                f"{settings}.{idle[0]} has no effect with {fv}={shown_kinds(self.fv)}; name the maker there."
            )
        if self.fv_source_qid and not any(each.takes_source for each in choices):
            raise ConfigError(
                f"{source}={self.fv_source_qid} has no effect with {fv}={shown_kinds(self.fv)}; "
                f"use {fv}=qid for that relation's vector."
            )

    @property
    def fvs(self) -> list[str]:
        """The kinds of vectors, always as a list."""
        return self.fv if isinstance(self.fv, list) else [self.fv]

    @property
    def choices(self) -> list[VectorChoice]:
        """The choices of vectors, one for each of `fvs`."""
        return [choice_of(name) for name in self.fvs]


def parse_kinds(key: str, value: Any) -> str | list[str]:
    """Check one of `KINDS` or a name that may be a maker's, or a list of different ones."""
    kinds = value if isinstance(value, list) else [value]
    fit = all(isinstance(kind, str) and kind.isidentifier() for kind in kinds)
    if not kinds or not fit or len(set(kinds)) < len(kinds):
        raise ConfigError(
            f"{key}={value!r} must be one of {', '.join(KINDS)}, the name of a maker, or a list of different ones."
        )
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
