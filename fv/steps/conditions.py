"""Conditions: the ways to run a relation's prompts that the test trials compare."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fv.edits import AddVector, LastTokenEdit
from fv.held_out import NO_VECTOR
from fv.sweep import Cell


@dataclass(frozen=True)
class Condition:
    """One way to run a relation's prompts.

    Attributes:
        name: what it is.
        edit: what it does to the last prompt token.
        fv: the function vector it belongs to; empty where it belongs to none.
        draw: which of several of its kind.
        cell: layer and alpha, where there is one.
        norm: of what is added or put in place, before alpha.
        of: the other relation it is made of.
        compared_with: the vector whose controls a vector is compared with.
    """

    name: str
    edit: LastTokenEdit
    fv: str = NO_VECTOR
    draw: int = 0
    cell: Cell | None = None
    norm: float | None = None
    of: str | None = None
    compared_with: str | None = None

    def where(self, eval_qid: str) -> dict[str, Any]:
        """The columns that say which condition a row is of."""
        layer, alpha = self.cell or (None, None)
        own = {"layer": layer, "alpha": alpha, "norm": self.norm, "of": self.of, "compared_with": self.compared_with}
        return {"fv": self.fv, "eval_qid": eval_qid, "condition": self.name, "draw": self.draw, **own}


def injected(
    name: str,
    vector: Tensor,
    cell: Cell,
    fv: str = NO_VECTOR,
    draw: int = 0,
    of: str | None = None,
    compared_with: str | None = None,
) -> Condition:
    """The condition `name`: alpha times a vector added at a cell."""
    edit = AddVector(cell.layer, cell.alpha * vector)
    return Condition(name, edit, fv, draw, cell, norm_of(vector), of, compared_with)


def norm_of(vector: Tensor) -> float:
    """A vector's length."""
    return float(vector.double().norm())
