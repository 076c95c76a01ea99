"""Conditions: candidates at their cells, as the test trials compare them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fv.evaluation.candidate import NO_VECTOR, At, Candidate, Injected, LayerVectors
from fv.evaluation.dev_choice import DevChoice
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual
from fv.interventions.engine import Cell
from fv.vectors.vector import norm_of, strength


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
        relative_norm: the same against the residual stream's norm there; None where that was not measured.
        of: the other relation it is made of.
        compared_with: the vector whose controls a vector is compared with.
        all_draws: whether there are no other draws of its kind than those that are run.
        refit_of: the condition whose intervals it widens; empty for none.
    """

    name: str
    edit: LastTokenEdit
    fv: str = NO_VECTOR
    draw: int = 0
    cell: Cell | None = None
    norm: float | None = None
    relative_norm: float | None = None
    of: str | None = None
    compared_with: str | None = None
    all_draws: bool = True
    refit_of: str = ""

    def where(self, eval_qid: str) -> dict[str, Any]:
        """The columns that say which condition a row is of."""
        layer, alpha = self.cell or (None, None)
        names = ("norm", "relative_norm", "of", "compared_with", "all_draws")
        own = {name: getattr(self, name) for name in names} | {"refit_of": self.refit_of or None}
        where = {"fv": self.fv, "eval_qid": eval_qid, "condition": self.name, "draw": self.draw}
        return {**where, "layer": layer, "alpha": alpha, **own}


@dataclass(frozen=True)
class Stream:
    """The residual stream of a relation's zero-shot prompts, which strengths are told against.

    Attributes:
        norm: its mean norm behind each block, (n_layers,); None where it was not measured.
        is_unit: whether alpha is a multiple of it (`AlphaUnit.residual`).
    """

    norm: Tensor | None
    is_unit: bool

    @property
    def unit(self) -> Tensor | None:
        """What alpha is a multiple of, (n_layers,); None where it is a factor on the vector as it is."""
        return self.norm if self.is_unit else None

    def injected(self, name: str, vector: Tensor, cell: Cell, **more: Any) -> Condition:
        """The condition `name`: a vector, (d_model,), added at a cell; `more` are fields of `Condition`."""
        edit = AddVector(cell.layer, strength(vector, cell, self.unit) * vector)
        return Condition(name, edit, cell=cell, **more, **self._norms(vector, cell.layer))

    def replaced(self, name: str, vector: Tensor, cell: Cell, **more: Any) -> Condition:
        """The condition `name`: the residual stream moved by the share `cell.alpha` towards a vector, (d_model,)."""
        edit = ReplaceResidual(cell.layer, vector, cell.alpha)
        return Condition(name, edit, cell=cell, **more, **self._norms(vector, cell.layer))

    def _norms(self, vector: Tensor, layer: int) -> dict[str, Any]:
        norm = norm_of(vector)
        return {"norm": norm, "relative_norm": None if self.norm is None else norm / float(self.norm[layer])}


def settled(candidates: Sequence[Candidate], best: Mapping[int, Cell], stream: Stream) -> list[Condition]:
    """Each candidate at its cell.

    Args:
        candidates: the candidates of a relation.
        best: {index of a candidate: the cell that is chosen for it}; where there is none, it has its own.
        stream: what strengths are told against.
    """
    conditions: list[Condition] = []
    refitted = {
        (one.fv, one.name): best.get(i, one.edit.cell)
        for i, one in enumerate(candidates)
        if isinstance(one.edit, Injected) and one.edit.at is not At.refitted
    }
    for i, candidate in enumerate(candidates):
        name, edit, labels = candidate.name, candidate.edit, candidate.labels
        if isinstance(edit, Injected):
            cell = best.get(i, edit.cell)
            if edit.at is At.refitted:
                cell = refitted.get((candidate.fv, candidate.refit_of), cell)
            conditions.append(stream.injected(name, edit.vector, cell, **labels))
        elif isinstance(edit, LayerVectors):
            cell = best.get(i, edit.cell)
            put = stream.replaced if edit.replaces else stream.injected
            conditions.append(put(name, edit.vectors[cell.layer], cell, **labels))
        else:
            conditions.append(Condition(name, edit, **labels))
    return conditions


def recorded_cells(candidates: Sequence[Candidate], rows: pd.DataFrame) -> dict[int, Cell]:
    """{index of a candidate that is injected: the cell it was run at}.

    Args:
        candidates: the candidates of a relation.
        rows: trial rows of its conditions.
    """
    where = ["fv", "condition", "draw"]
    there = rows.drop_duplicates(where)[[*where, "layer", "alpha"]].dropna(subset="layer")
    cells = {tuple(key): Cell(int(layer), float(alpha)) for *key, layer, alpha in there.itertuples(index=False)}
    injected = {i: one for i, one in enumerate(candidates) if isinstance(one.edit, Injected | LayerVectors)}
    return {i: cells[one.fv, one.name, one.draw] for i, one in injected.items()}


def best_cells(candidates: Sequence[Candidate], choice: DevChoice) -> dict[int, Cell]:
    """{index of a candidate that is at its own best cell: that cell}; one search for all in one kind of prompt."""
    found: dict[int, Cell] = {}
    together: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for i, candidate in enumerate(candidates):
        edit, kind = candidate.edit, candidate.prompt
        if isinstance(edit, LayerVectors):
            found[i] = choice.of_layer_vectors(edit.vectors, edit.replaces, kind)
        elif isinstance(edit, Injected) and edit.at is At.own:
            together[kind][i] = edit.vector
    for kind, vectors in together.items():
        cells = choice.of_vectors(torch.stack([*vectors.values()]), kind)
        found |= dict(zip(vectors, cells, strict=True))
    return found
