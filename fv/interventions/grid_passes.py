"""Passes of a grid, packed so that a row's numbers depend neither on other cells nor on other vectors.

Equal rows of one matrix product may differ in their last bits, and so may products of different shapes. So the prompts
alone determine the shape of every pass, and a row's vector and alpha alone determine its place in the pass: parts of a
grid that are computed separately have the same bytes as the whole.
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
"""Most injections into the prompts of a pass, as far as PASS_ROWS allows: a matrix product of 64 rows takes a CPU only
a little longer than one of 16, because it reads and packs the same weights (table in docs/engine.md)."""


class Injection(NamedTuple):
    """The content of one slot of a pass: one of a prompt's vectors, added at a cell."""

    cell: Cell
    vector: int


def inject_batch(
    batch: PromptBatch, vectors: Tensor, cells: Sequence[Cell], max_rows: int, advance: Advance
) -> TargetScores:
    """Scores, (batch, n_vectors, n_cells), under the vectors, (batch, n_vectors, d_model); see `Engine.inject`."""
    n_prompts, n_vectors, _ = vectors.shape
    found: dict[Injection, TargetScores] = {}
    for slots in passes_of(vectors, cells, max_rows):
        scores = _run_pass(batch, vectors, slots)  # (batch, n_slots)
        found.update({own: scores[:, i] for i, own in enumerate(slots) if own is not None})
        advance(n_prompts * sum(own is not None for own in slots))
    by_cell = [TargetScores.stack([found[Injection(cell, i)] for i in range(n_vectors)], 1) for cell in cells]
    return TargetScores.stack(by_cell, 2)


def passes_of(vectors: Tensor, cells: Sequence[Cell], max_rows: int) -> list[list[Injection | None]]:
    """Passes of injections, each after a single block, with a fixed number of slots; None is an empty slot."""
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
    """A number that depends only on the vector, and spreads several vectors over the slots."""
    return hashlib.sha256(vector.float().cpu().numpy().tobytes()).digest()[0]


def _slot(alpha: float, n_slots: int) -> int:
    """A slot that depends only on alpha, and that neighbours in the usual grids (1 2 3, or 0.5 1 2) do not share.

    Each doubling of alpha moves one slot on, the values between two doublings go once around all slots, and a negative
    sign goes half around.
    """
    mantissa, doublings = math.frexp(abs(alpha))  # |alpha| = mantissa * 2**doublings, mantissa in [0.5, 1)
    between = int((2 * mantissa - 1) * n_slots)
    sign = n_slots // 2 if alpha < 0 else 0
    return (doublings + between + sign) % n_slots


def _run_pass(batch: PromptBatch, vectors: Tensor, slots: Sequence[Injection | None]) -> TargetScores:
    """Scores, (batch, n_slots), of rows that start after a block with `alpha * vector` added; an empty slot has
    alpha 0."""
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
