"""Where what a vector is compared with is injected: at its own best cell on the dev trials (docs/methods.md)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fv.evaluation.selection import best_cell
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual
from fv.interventions.engine import Cell, Engine
from fv.models.prompt import Prompt
from fv.vectors.vector import strength


@dataclass(frozen=True)
class DevChoice:
    """The search for the best cells of controls and baselines in one relation's zero-shot prompts.

    Attributes:
        engine: the engine.
        prompts: the dev trials' zero-shot prompts.
        cells: the vector's cells and weaker ones, by layer then alpha.
        shares: by which shares a residual stream may be moved towards a vector, ascending.
        unit: what alpha is a multiple of at each layer, (n_layers,); None where it is a factor on the vector.
    """

    engine: Engine
    prompts: Sequence[Prompt]
    cells: Sequence[Cell]
    shares: Sequence[float]
    unit: Tensor | None

    def of_vectors(self, vectors: Tensor) -> list[Cell]:
        """The best cell of each vector, (n_vectors, d_model); alpha 0 where it does harm at all of them."""
        edits = [self._added(vector, cell) for vector in vectors for cell in self.cells]
        unedited, *means = self._means([None, *edits])
        n_cells = len(self.cells)
        each = (means[start : start + n_cells] for start in range(0, len(means), n_cells))
        return [best_cell(self.cells, own, unedited) for own in each]

    def of_layer_vectors(self, vectors: Tensor) -> tuple[Cell, Cell]:
        """Where the vector of a layer is best added, and where and by which share it is best put in place.

        Args:
            vectors: the vector for each layer, (n_layers, d_model).
        """
        layers = sorted({cell.layer for cell in self.cells})
        moved = [Cell(layer, share) for layer in layers for share in self.shares]
        adding = [self._added(vectors[cell.layer], cell) for cell in self.cells]
        moving = [ReplaceResidual(cell.layer, vectors[cell.layer], cell.alpha) for cell in moved]
        unedited, *means = self._means([None, *adding, *moving])
        added, replaced = means[: len(adding)], means[len(adding) :]
        return best_cell(self.cells, added, unedited), best_cell(moved, replaced, unedited)

    def _added(self, vector: Tensor, cell: Cell) -> AddVector:
        return AddVector(cell.layer, strength(vector, cell, self.unit) * vector)

    def _means(self, edits: Sequence[LastTokenEdit]) -> list[float]:
        """Mean log p under each edit."""
        return self.engine.target_logprobs(self.prompts, edits).mean(0).tolist()
