"""How the cells of a grid are packed into passes: a row's numbers depend neither on other cells nor on other vectors.

Equal rows of one matrix product may differ in their last bits, and so may products of another shape. So every pass has
the shape that the prompts alone decide, and a row the place that its vector and alpha alone decide: parts of a grid
that were computed apart have the bytes of the whole.
"""

import hashlib
import math
from collections.abc import Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from fv.interventions.engine import Cell, TargetScores
from fv.interventions.prompt_batch import PromptBatch
from fv.interventions.readout import target_scores
from fv.progress import Advance

PASS_ROWS = 64
MAX_SLOTS = 8
"""A pass holds up to MAX_SLOTS injections into its prompts, as many as fit PASS_ROWS: a matrix product of 64 rows takes
a CPU little longer than one of 16, for it reads and packs the same weights (docs/engine.md has the table)."""


class Injection(NamedTuple):
    """What is added in one slot of a pass: one of a prompt's vectors, at a cell."""

    cell: Cell
    vector: int


def inject_batch(
    batch: PromptBatch, vectors: Tensor, cells: Sequence[Cell], max_rows: int, advance: Advance
) -> TargetScores:
    """Scores, (batch, n_vectors, n_cells), with the vectors, (batch, n_vectors, d_model); see `Engine.inject`."""
    n_prompts, n_vectors, _ = vectors.shape
    found: dict[Injection, TargetScores] = {}
    for slots in passes_of(vectors, cells, max_rows):
        scores = _run_pass(batch, vectors, slots)  # (batch, n_slots)
        found.update({own: scores[:, i] for i, own in enumerate(slots) if own is not None})
        advance(n_prompts * sum(own is not None for own in slots))
    by_cell = [TargetScores.stack([found[Injection(cell, i)] for i in range(n_vectors)], 1) for cell in cells]
    return TargetScores.stack(by_cell, 2)


def passes_of(vectors: Tensor, cells: Sequence[Cell], max_rows: int) -> list[list[Injection | None]]:
    """Injections behind one block a pass, on a fixed number of slots, None where one stays empty."""
    n_prompts, n_vectors, _ = vectors.shape
    n_slots = min(MAX_SLOTS, max(1, min(PASS_ROWS, max_rows) // n_prompts))
    shifts = [_shift(vectors[0, i]) if n_slots > 1 else 0 for i in range(n_vectors)]
    passes: list[list[Injection | None]] = []
    for _, here in groupby(sorted(set(cells)), key=lambda cell: cell.layer):
        of_slot: list[list[Injection]] = [[] for _ in range(n_slots)]
        for cell in here:
            for i, shift in enumerate(shifts):
                of_slot[(_slot(cell.alpha, n_slots) + shift) % n_slots].append(Injection(cell, i))
        passes += map(list, zip_longest(*of_slot))
    return passes


def _shift(vector: Tensor) -> int:
    """A number that depends on the vector alone, and spreads several of them over the slots."""
    return hashlib.sha256(vector.float().cpu().numpy().tobytes()).digest()[0]


def _slot(alpha: float, n_slots: int) -> int:
    """A slot that depends on alpha alone, and that neighbours of the usual grids (1 2 3, or 0.5 1 2) do not share.

    Each doubling of alpha goes one slot on, what is between two doublings goes once around, a sign half around.
    """
    mantissa, doublings = math.frexp(abs(alpha))  # |alpha| = mantissa * 2**doublings, mantissa in [0.5, 1)
    between = int((2 * mantissa - 1) * n_slots)
    sign = n_slots // 2 if alpha < 0 else 0
    return (doublings + between + sign) % n_slots


def _run_pass(batch: PromptBatch, vectors: Tensor, slots: Sequence[Injection | None]) -> TargetScores:
    """Scores, (batch, n_slots), of rows that start behind a block with `alpha * vector` added; an empty slot is
    computed as alpha 0."""
    filled = next(own for own in slots if own is not None)
    layer = filled.cell.layer
    rows = batch.residual[layer + 1]  # (batch, 1, d_model)
    vectors = vectors.to(rows.device)
    alphas = torch.tensor([own.cell.alpha if own else 0.0 for own in slots], device=rows.device, dtype=vectors.dtype)
    rows = rows + alphas[:, None] * vectors[:, [(own or filled).vector for own in slots]]  # (batch, n_slots, d_model)
    for above in range(layer + 1, batch.lm.n_layers):
        rows = batch.run_block(above, rows)
    targets = batch.targets.repeat_interleave(len(slots))
    return target_scores(batch.lm, rows.flatten(0, 1), targets).reshape(*rows.shape[:2])
