"""Condition: a candidate at its settled cell, ready to run on test trials."""

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
        name: its name.
        edit: edit of the last prompt token; None for no edit.
        fv: the function vector that it belongs to; empty if it belongs to none.
        draw: number of the random draw, if there are several.
        cell: layer and alpha of an injection; None without one.
        norm: norm of the injected vector, before alpha.
        relative_norm: this norm divided by the residual stream's at the layer; None without effects.
        of: the other relation that it is made from.
        compared_with: the vector whose controls a vector is compared with.
        all_draws: whether all possible draws are run.
        refit_of: the condition that it is a refit of, whose intervals it widens; empty for none.
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
        """Columns that identify the condition in a table."""
        layer, alpha = self.cell or (None, None)
        names = ("norm", "relative_norm", "of", "compared_with", "all_draws")
        own = {name: getattr(self, name) for name in names} | {"refit_of": self.refit_of or None}
        where = {"fv": self.fv, "eval_qid": eval_qid, "condition": self.name, "draw": self.draw}
        return {**where, "layer": layer, "alpha": alpha, **own}


@dataclass(frozen=True)
class Stream:
    """Residual stream of a relation's zero-shot prompts; strengths of injections are relative to it.

    Attributes:
        norm: its mean norm after each block, (n_layers,); None without effects.
        is_unit: whether this norm is the unit of alpha (`AlphaUnit.residual`).
    """

    norm: Tensor | None
    is_unit: bool

    @property
    def unit(self) -> Tensor | None:
        """Unit of alpha at each layer, (n_layers,); None if alpha itself is the factor on the vector."""
        return self.norm if self.is_unit else None

    def injected(self, name: str, vector: Tensor, cell: Cell, **more: Any) -> Condition:
        """Make the condition `name`: a vector, (d_model,), added at a cell. `more` are fields of `Condition`."""
        edit = AddVector(cell.layer, strength(vector, cell, self.unit) * vector)
        return Condition(name, edit, cell=cell, **more, **self._norms(vector, cell.layer))

    def replaced(self, name: str, vector: Tensor, cell: Cell, **more: Any) -> Condition:
        """Make the condition `name`: the residual stream, moved by the fraction `cell.alpha` to a (d_model,) vector."""
        edit = ReplaceResidual(cell.layer, vector, cell.alpha)
        return Condition(name, edit, cell=cell, **more, **self._norms(vector, cell.layer))

    def _norms(self, vector: Tensor, layer: int) -> dict[str, Any]:
        norm = norm_of(vector)
        return {"norm": norm, "relative_norm": None if self.norm is None else norm / float(self.norm[layer])}


def settled(candidates: Sequence[Candidate], best: Mapping[int, Cell], stream: Stream) -> list[Condition]:
    """Settle each candidate at its cell.

    Args:
        candidates: the candidates of a relation.
        best: {index of a candidate: the cell that was chosen for it}; others keep the cell that they have.
        stream: the residual stream, to which strengths are relative.
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
    """Cells at which candidates were run: {index of an injected candidate: its cell}.

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
    """Choose cells for the candidates that have a choice: {index of the candidate: its best cell}.

    All vectors in one kind of prompt share one search.
    """
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
