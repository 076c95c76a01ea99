"""The injection grid: which vector, behind which blocks, how strongly, on which relations (spec section 2)."""

from dataclasses import dataclass

from torch import Tensor

from fv.interventions.engine import Cell
from fv.vectors.names import vector_name


@dataclass(frozen=True)
class Vector:
    """A vector to inject.

    Attributes:
        source: its name without its k, `fv.vectors.names.source_name`.
        kind: `global`, `qid`, `aie_qid` or `file`.
        source_qid: the relation it stands for, if any; its in-domain relation.
        values: (d_model,).
        k: how many heads it is made of; None where that is not known.
        of_several: whether there are vectors of other k from the same source, which names must tell apart.
        in_matrix: whether it is one of the transfer matrix's (one of every relation).
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


def strength(vector: Tensor, cell: Cell, residual_norm: Tensor | None) -> float:
    """The factor on `vector` at a cell.

    Args:
        vector: (d_model,).
        cell: layer and alpha.
        residual_norm: the mean norm of the residual stream behind each block, (n_layers,), where alpha is a multiple of
            it (`AlphaUnit.residual`); None where alpha is a factor on the vector as it is.
    """
    if residual_norm is None:
        return cell.alpha
    norm = norm_of(vector)
    return cell.alpha * float(residual_norm[cell.layer]) / norm if norm else 0.0


def norm_of(vector: Tensor) -> float:
    """A vector's length."""
    return float(vector.double().norm())
