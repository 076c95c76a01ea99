"""Own best cells on the dev trials, of whatever is injected beside the vector (docs/methods.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fv.evaluation.cells import weaker_cells
from fv.evaluation.selection import best_cell
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual
from fv.interventions.engine import Cell, Engine
from fv.models.prompt import Prompt
from fv.vectors.vector import strength


@dataclass(frozen=True)
class DevChoice:
    """The search for the best cells of what is injected into one relation's prompts.

    Attributes:
        engine: the engine.
        prompts: {kind of prompt: the dev trials' prompts}.
        grid: the vector's cells, by layer then alpha.
        weaker: shares of the weakest alpha, and of a whole replacement, that may be chosen, too.
        unit: what alpha is a multiple of at each layer, (n_layers,); None where it is a factor on the vector.
    """

    engine: Engine
    prompts: Mapping[str, Sequence[Prompt]]
    grid: Sequence[Cell]
    weaker: Sequence[float]
    unit: Tensor | None

    @property
    def cells(self) -> list[Cell]:
        """The vector's cells and weaker ones, by layer then alpha."""
        return weaker_cells(self.grid, self.weaker)

    def of_vectors(self, vectors: Tensor, kind: str = "zero_shot") -> list[Cell]:
        """The best cell of each vector, (n_vectors, d_model), in a kind of prompt; alpha 0 where all do harm."""
        cells = self.cells
        edits = [self._added(vector, cell) for vector in vectors for cell in cells]
        unedited, *means = self._means(kind, [None, *edits])
        each = (means[start : start + len(cells)] for start in range(0, len(means), len(cells)))
        return [best_cell(cells, own, unedited) for own in each]

    def of_layer_vectors(self, vectors: Tensor, replaces: bool, kind: str = "zero_shot") -> Cell:
        """The cell where the vector of a layer is best added, or the layer and share where it best replaces the stream.

        Args:
            vectors: the vector for each layer, (n_layers, d_model).
            replaces: whether it is put in the stream's place; alpha is then the share.
            kind: the kind of prompt.
        """
        cells = self.cells
        if replaces:
            shares = sorted({1.0, *self.weaker})
            cells = [Cell(layer, share) for layer in sorted({cell.layer for cell in self.grid}) for share in shares]
        edits: list[LastTokenEdit] = [None]
        for cell in cells:
            vector = vectors[cell.layer]
            edits.append(ReplaceResidual(cell.layer, vector, cell.alpha) if replaces else self._added(vector, cell))
        unedited, *means = self._means(kind, edits)
        return best_cell(cells, means, unedited)

    def _added(self, vector: Tensor, cell: Cell) -> AddVector:
        return AddVector(cell.layer, strength(vector, cell, self.unit) * vector)

    def _means(self, kind: str, edits: Sequence[LastTokenEdit]) -> list[float]:
        """Mean log p under each edit."""
        return self.engine.target_logprobs(self.prompts[kind], edits).mean(0).tolist()
