"""Choice of each control's own best cell on the dev trials (docs/methods.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from fv.data.prompt_kinds import ZERO_SHOT
from fv.evaluation.cells import weaker_cells
from fv.evaluation.selection import best_cell
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual
from fv.interventions.engine import Cell, Engine
from fv.models.prompt import Prompt
from fv.vectors.vector import strength


@dataclass(frozen=True)
class DevChoice:
    """Search for the best cells of vectors injected into one relation's prompts.

    Attributes:
        engine: the engine.
        prompts: {kind of prompt: the dev trials' prompts}.
        grid: the function vector's cells, by layer then alpha.
        weaker: fractions of the weakest alpha, and of a full replacement, that may be chosen as well.
        unit: unit of alpha at each layer, (n_layers,); None if alpha itself is the factor on the vector.
    """

    engine: Engine
    prompts: Mapping[str, Sequence[Prompt]]
    grid: Sequence[Cell]
    weaker: Sequence[float]
    unit: Tensor | None

    @property
    def cells(self) -> list[Cell]:
        """All cells to choose from: the function vector's and weaker ones, by layer then alpha."""
        return weaker_cells(self.grid, self.weaker)

    def of_vectors(self, vectors: Tensor, kind: str = ZERO_SHOT) -> list[Cell]:
        """Best cell of each vector, (n_vectors, d_model), in one kind of prompt; alpha 0 if every cell does harm."""
        cells = self.cells
        edits = [edit for vector in vectors for edit in self._added(vector, cells)]
        unedited, *means = self._means(kind, [None, *edits])
        each = (means[start : start + len(cells)] for start in range(0, len(means), len(cells)))
        return [best_cell(cells, own, unedited) for own in each]

    def of_layer_vectors(self, vectors: Tensor, replaces: bool, kind: str = ZERO_SHOT) -> Cell:
        """Best cell for injecting each layer's own vector.

        Args:
            vectors: one vector per layer, (n_layers, d_model).
            replaces: whether the vector replaces the residual stream instead of being added; alpha is then the
                fraction of the stream that is replaced.
            kind: the kind of prompt.
        """
        cells = self.cells
        if replaces:
            shares = sorted({1.0, *self.weaker})
            cells = [Cell(layer, share) for layer in sorted({cell.layer for cell in self.grid}) for share in shares]
            edits: list[LastTokenEdit] = [ReplaceResidual(c.layer, vectors[c.layer], c.alpha) for c in cells]
        else:
            edits = [edit for cell in cells for edit in self._added(vectors[cell.layer], [cell])]
        unedited, *means = self._means(kind, [None, *edits])
        return best_cell(cells, means, unedited)

    def _added(self, vector: Tensor, cells: Sequence[Cell]) -> Iterator[AddVector]:
        """The vector added at each cell; cells of equal strength share one tensor."""
        scaled: dict[float, Tensor] = {}
        for cell in cells:
            factor = strength(vector, cell, self.unit)
            if factor not in scaled:
                scaled[factor] = factor * vector
            yield AddVector(cell.layer, scaled[factor])

    def _means(self, kind: str, edits: Sequence[LastTokenEdit]) -> list[float]:
        """Mean log probability of the target under each edit."""
        return self.engine.target_logprobs(self.prompts[kind], edits).mean(0).tolist()
