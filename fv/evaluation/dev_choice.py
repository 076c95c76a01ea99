"""Where what a vector is compared with is injected: at its own best cell on the dev trials (docs/methods.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from fv.evaluation.selection import best_cell
from fv.evaluation.trial_rows import inject_at
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
        everywhere = vectors.expand(len(self.prompts), -1, -1)  # (n_prompts, n_vectors, d_model)
        before, after = inject_at(self.engine, self.prompts, everywhere, self.cells, self.unit)
        unedited, means = float(before.logprob.mean()), after.logprob.mean(0)  # (n_vectors, n_cells)
        return [best_cell(self.cells, own, unedited) for own in means.tolist()]

    def of_layer_vectors(self, vectors: Tensor) -> tuple[Cell, Cell]:
        """Where the vector of a layer is best added, and where and by which share it is best put in place.

        Args:
            vectors: the vector for each layer, (n_layers, d_model).
        """
        own = self.engine.last_token(self.prompts)
        unedited = float(own.scores.logprob.mean())
        tried: tuple[list[Cell], list[Cell]] = ([], [])
        means: tuple[list[float], list[float]] = ([], [])
        for layer, here in groupby(self.cells, key=lambda cell: cell.layer):
            vector = vectors[layer].to(own.residual)  # (d_model,)
            added = strength(vector, Cell(layer, 1.0), self.unit) * vector
            # To move towards a vector is to add what it differs by from each prompt's own: (n_prompts, 2, d_model).
            both_ways = torch.stack([added.expand(len(self.prompts), -1), vector - own.residual[:, layer]], 1)
            cells = (list(here), [Cell(layer, share) for share in self.shares])
            both = sorted({*cells[0], *cells[1]})
            _, after = self.engine.inject(self.prompts, both_ways, both)
            found = after.logprob.mean(0)  # (2, n_cells)
            for i, mine in enumerate(cells):
                tried[i].extend(mine)
                means[i].extend(float(found[i, both.index(cell)]) for cell in mine)
        added_at, replaced_at = (best_cell(mine, scores, unedited) for mine, scores in zip(tried, means, strict=True))
        return added_at, replaced_at
