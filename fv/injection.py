"""The injection grid: which vector, behind which blocks, how strongly, on which relations (spec section 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from fv.artifacts import read_torch
from fv.config import EvalScopeConfig, InjectionConfig, ScopeMode
from fv.errors import ArtifactError, ConfigError, shorten
from fv.heads import choose_indices
from fv.models.language_model import LanguageModel
from fv.sweep import Cell


@dataclass(frozen=True)
class Vector:
    """A vector to inject.

    Attributes:
        source: `global`, `file`, or the relation's q_id.
        kind: `global`, `qid` or `file`.
        source_qid: the relation it stands for, if any; its in-domain relation.
        values: (d_model,).
        k: how many heads it is made of; None where that is not known.
        of_several: whether there are vectors of other k from the same source, which names must tell apart.
    """

    source: str
    kind: str
    source_qid: str | None
    values: Tensor
    k: int | None = None
    of_several: bool = False

    @property
    def name(self) -> str:
        """What tells the vector from every other one of the run."""
        return f"{self.source}@k{self.k}" if self.of_several else self.source


def grid(injection: InjectionConfig, n_layers: int) -> list[Cell]:
    """The (layer, alpha) cells, by layer then alpha.

    Raises:
        ConfigError: a layer is out of range.
    """
    layers = choose_indices("injection.layer", injection.layer, n_layers)
    return [Cell(layer, alpha) for layer in layers for alpha in injection.alpha]


def scope_of(vector: Vector, scope: EvalScopeConfig, alone: bool, known: Sequence[str]) -> list[str]:
    """The relations one vector is evaluated on.

    `auto` is `in_domain` for one relation's vector, and `all_qids` for the global vector and for the transfer
    matrix (`alone=False`).

    Raises:
        ConfigError: `in_domain` of a vector without a relation, or a q_id that the snapshot does not hold.
    """
    mode = scope.mode
    if mode is ScopeMode.auto:
        mode = ScopeMode.in_domain if vector.source_qid is not None and alone else ScopeMode.all_qids
    if mode is ScopeMode.all_qids:
        return list(known)
    if mode is ScopeMode.in_domain and vector.source_qid is None:
        raise ConfigError(
            f"eval_scope=in_domain needs a vector of one relation, and the {vector.name} vector is of none. Use "
            "injection.fv=qid injection.fv_source_qid=<q_id>, or eval_scope=all_qids, or eval_scope=qid_list "
            f"eval_scope.qids=[…]; the snapshot has {shorten(list(known), 40)}."
        )
    wanted = scope.qids if mode is ScopeMode.qid_list else [str(vector.source_qid)]
    unknown = sorted(set(wanted or []) - set(known))
    if unknown:
        raise ConfigError(
            f"q_id {shorten(unknown)} has no trials to evaluate on; the snapshot has {shorten(list(known), 40)}."
        )
    return list(wanted or [])


def read_vector(path: Path, lm: LanguageModel) -> Tensor:
    """Read one (d_model,) vector.

    Raises:
        ArtifactError: the file is missing or truncated, or holds no such vector.
    """
    vector = read_torch(path)
    if not isinstance(vector, Tensor) or vector.shape != (lm.d_model,):
        shape = tuple(vector.shape) if isinstance(vector, Tensor) else type(vector).__name__
        raise ArtifactError(f"{path} holds {shape}, where a ({lm.d_model},) vector of {lm.name} is due.")
    if not vector.isfinite().all():
        raise ArtifactError(f"{path} holds NaN or infinite values.")
    return vector
