"""Options among edits of one kind, one for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fv.vectors.options import AmongCells, Option

if TYPE_CHECKING:
    from fv.interventions.edits import Edit, LastTokenEdit
    from fv.interventions.engine import Cell
    from fv.vectors.stream import Stream


@dataclass(frozen=True, eq=False)
class EditAtLayer(AmongCells):
    """One edit per layer, of which a cell takes its layer's, `alpha` times as strong (`Edit.scaled`).

    Example:
        >>> each = tuple(fv.SetHeads(((layer, 0),), 0.0) for layer in range(lm.n_layers))
        >>> EditAtLayer(each, fv.Cell(11, 0.5)).default
        Option(layer=11, alpha=0.5)

    Attributes:
        each: the edits, in the order of layers; None for a layer without one, which no cell may name.
        cell: the cell if none is chosen.
        among: the cells that dev trials choose among, by layer then alpha; empty to take `cell`.
    """

    each: tuple[Edit | None, ...]
    cell: Cell
    among: Sequence[Cell] = ()

    def edit(self, option: Option, stream: Stream) -> LastTokenEdit:
        if option.layer is None or not option.alpha:
            return None
        own = self.each[option.layer]
        return None if own is None else own.scaled(option.alpha)
