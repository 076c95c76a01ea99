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
from fv.names import vector_name
from fv.sweep import Cell


@dataclass(frozen=True)
class Vector:
    """A vector to inject.

    Attributes:
        source: its name without its k, `fv.names.source_name`.
        kind: `global`, `qid`, `aie_qid` or `file`.
        source_qid: the relation it stands for, if any; its in-domain relation.
        values: (d_model,).
        k: how many heads it is made of; None where that is not known.
        of_several: whether there are vectors of other k from the same source, which names must tell apart.
        in_matrix: whether it is one of the transfer matrix's (`injection.fv=all_qids`).
    """

    source: str
    kind: str
    source_qid: str | None
    values: Tensor
    k: int | None = None
    of_several: bool = False
    in_matrix: bool = False

    @property
    def name(self) -> str:
        """What tells the vector from every other one of the run."""
        return vector_name(self.source, self.k if self.of_several else None)


def grid(injection: InjectionConfig, n_layers: int) -> list[Cell]:
    """The (layer, alpha) cells, by layer then alpha.

    Raises:
        ConfigError: a layer is out of range.
    """
    layers = choose_indices("injection.layer", injection.layer, n_layers)
    return [Cell(layer, alpha) for layer in layers for alpha in injection.alpha]


def strength(vector: Tensor, cell: Cell, residual_norm: Tensor | None) -> float:
    """The factor on `vector` at a cell.

    Args:
        vector: (d_model,).
        cell: layer and alpha.
        residual_norm: the mean norm of the residual stream behind each block, (n_layers,), where alpha is a multiple of
            it (`injection.alpha_unit=residual`); None where alpha is a factor on the vector as it is.
    """
    if residual_norm is None:
        return cell.alpha
    norm = norm_of(vector)
    return cell.alpha * float(residual_norm[cell.layer]) / norm if norm else 0.0


def norm_of(vector: Tensor) -> float:
    """A vector's length."""
    return float(vector.double().norm())


def weaker_cells(cells: Sequence[Cell], shares: Sequence[float]) -> list[Cell]:
    """The cells, and in each of their layers `shares` of the weakest alpha of each sign, by layer then alpha.

    What a vector is compared with may choose among these: at the vector's own strengths it may do nothing but harm.
    """
    alphas = sorted({cell.alpha for cell in cells if cell.alpha}, key=abs)
    weakest = [*[a for a in alphas if a > 0][:1], *[a for a in alphas if a < 0][:1]]
    more = {Cell(layer, alpha * share) for layer in {c.layer for c in cells} for alpha in weakest for share in shares}
    return sorted({*cells, *more})


def scope_of(vector: Vector, scope: EvalScopeConfig, known: Sequence[str]) -> list[str]:
    """The relations one vector is evaluated on.

    `auto` is `in_domain` for one relation's vector, and `all_qids` for the global vector and for those of the transfer
    matrix.

    Raises:
        ConfigError: `in_domain` of a vector without a relation, or a q_id that the snapshot does not hold.
    """
    mode = scope.mode
    if mode is ScopeMode.auto:
        mode = ScopeMode.all_qids if vector.source_qid is None or vector.in_matrix else ScopeMode.in_domain
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
