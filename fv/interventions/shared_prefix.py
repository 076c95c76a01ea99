"""The fast exact engine: a prompt is run once, edits are extra copies of its last token.

An edit at the last token cannot change an earlier position, so for a prompt of T tokens:

1. *Prompt.* All tokens run once, unedited; each layer's keys and values of the first T-1 are kept, and the last
   token's residual stream in front of each block (`fv.interventions.prompt_batch`).
2. *Rows.* Copies of the last token, one an edit, run as extra positions of the sequence. A row enters at the layer
   that edits it: below, it would equal the unedited last token.
3. *Attention.* A row sees the prefix and itself only (`fv.interventions.prefix_attention`).
4. *Readout.* Final norm and unembedding of the rows, scored at the target (`fv.interventions.readout`).

Many prompts share a pass. What is skipped is what no output needs: the last block's MLP, the final norm and the
unembedding of the prefix. `docs/engine.md` says why this is exact and where it is not allowed; it agrees with the
naive loop within 2e-5 in log p (`tests/interventions/test_sweep_parity.py`).
"""

import hashlib
import math
from collections.abc import Sequence
from itertools import groupby, zip_longest
from typing import NamedTuple

import torch
from torch import Tensor

from fv.interventions.engine import (
    Advance,
    Cell,
    Head,
    LastToken,
    PatchScores,
    TargetScores,
    check_vectors,
    ignore_progress,
)
from fv.interventions.hooks import edit_head_outputs
from fv.interventions.passes import in_engine_pass
from fv.interventions.prefix_attention import shared_prefix_mode
from fv.interventions.prompt_batch import PromptBatch
from fv.interventions.readout import target_logprobs, target_scores
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

PASS_ROWS = 64
MAX_SLOTS = 8
"""A pass of few injected rows holds up to MAX_SLOTS cells, as many as fit PASS_ROWS: a matrix product of 64 rows
takes a CPU no longer than one of 16, for it reads and packs the same weights."""


class Injection(NamedTuple):
    """What is added in one slot of a pass: some of a prompt's vectors, at a cell."""

    cell: Cell
    vectors: range


class SharedPrefixEngine:
    """Implements `fv.interventions.engine.Engine`; at most `max_rows` token rows go through the model in one pass."""

    def __init__(self, lm: LanguageModel, max_rows: int) -> None:
        self.lm = lm
        self.max_rows = max_rows

    def batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[slice]:
        """As many prompts as keep both rows and prompt tokens of a batch within `max_rows`, one after the other."""
        found, start, longest = [], 0, 0
        for i, prompt in enumerate(prompts):
            longest = max(longest, len(prompt.token_ids))
            if i > start and (i + 1 - start) * max(rows_each, longest) > self.max_rows:
                found.append(slice(start, i))
                start, longest = i, len(prompt.token_ids)
        return [*found, slice(start, len(prompts))]

    @in_engine_pass
    def last_token(self, prompts: Sequence[Prompt]) -> LastToken:
        found = []
        for part in self.batches(prompts, rows_each=1):
            with shared_prefix_mode(self.lm):
                found.append(_unedited(PromptBatch(self.lm, prompts[part])))
        return LastToken.cat(found)

    @in_engine_pass
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> PatchScores:
        values = head_values.to(self.lm.device, self.lm.dtype)
        by_layer = sorted(heads)
        columns = [by_layer.index(head) for head in heads]
        scored = []
        for part in self.batches(prompts, rows_each=1 + len(heads)):
            with shared_prefix_mode(self.lm):
                scored.append(self._patch_batch(PromptBatch(self.lm, prompts[part]), by_layer, values))
            advance(part.stop - part.start)
        unedited, unpatched, patched = zip(*scored, strict=True)
        return PatchScores(LastToken.cat(unedited), torch.cat(unpatched)[:, columns], torch.cat(patched)[:, columns])

    def _patch_batch(self, batch: PromptBatch, heads: Sequence[Head], values: Tensor) -> PatchScores:
        """Patch heads, sorted by layer, in chunks that leave room for row 0."""
        before, after = [], []
        step = self.max_rows - 1
        for chunk in (heads[start : start + step] for start in range(0, len(heads), step)):
            rows = _patched_rows(batch, chunk, values)  # (batch, 1 + n_heads, d_model)
            targets = batch.targets.repeat_interleave(rows.shape[1])
            logprob = target_logprobs(batch.lm, rows.flatten(0, 1), targets).reshape(rows.shape[:2])
            # Row 0 is unpatched. A patch that adds exactly nothing is unpatched too: equal rows of one matrix
            # product may still differ in their last bits.
            column = torch.arange(1, len(chunk) + 1).where(_changes_residual(batch, chunk, values), 0)
            before.append(logprob[:, :1].expand(-1, len(chunk)))
            after.append(logprob.gather(1, column))
        return PatchScores(_unedited(batch), torch.cat(before, 1), torch.cat(after, 1))

    @in_engine_pass
    def inject(
        self,
        prompts: Sequence[Prompt],
        vectors: Tensor,
        cells: Sequence[Cell],
        advance: Advance = ignore_progress,
        apart: bool = False,
    ) -> tuple[TargetScores, TargetScores]:
        check_vectors(prompts, vectors, self.lm.d_model)
        vectors = vectors.to(self.lm.device, self.lm.dtype)
        baseline, injected = [], []
        for part in self.batches(prompts, rows_each=1 if apart else vectors.shape[1]):
            with shared_prefix_mode(self.lm):
                batch = PromptBatch(self.lm, prompts[part])
                injected.append(self._inject_batch(batch, vectors[part], cells, advance, apart))
                baseline.append(_own_scores(batch))
        return TargetScores.cat(baseline), TargetScores.cat(injected)

    def _inject_batch(
        self, batch: PromptBatch, vectors: Tensor, cells: Sequence[Cell], advance: Advance, apart: bool
    ) -> TargetScores:
        """Scores, (batch, n_vectors, n_cells), with the vectors, (batch, n_vectors, d_model)."""
        n_prompts, n_vectors, _ = vectors.shape
        size = 1 if apart else min(n_vectors, self.max_rows)
        groups = [range(start, min(start + size, n_vectors)) for start in range(0, n_vectors, size)]
        found: dict[Injection, TargetScores] = {}
        for rows in self._passes(vectors, groups, cells):
            scores = _inject_rows(batch, vectors, rows)  # (batch, n_slots, vectors of a group)
            found.update({row: scores[:, slot] for slot, row in enumerate(rows) if row is not None})
            advance(n_prompts * sum(len(row.vectors) for row in rows if row is not None))
        by_cell = [TargetScores.cat([found[Injection(cell, group)] for group in groups], 1) for cell in cells]
        return TargetScores.stack(by_cell, 2)

    def _passes(self, vectors: Tensor, groups: Sequence[range], cells: Sequence[Cell]) -> list[list[Injection | None]]:
        """Rows of one layer a pass, on a fixed number of slots, None where one stays empty.

        The shape of a pass depends on the prompts and the size of a group alone, and a row's slot on its alpha and
        vectors. So its numbers do not depend on which other cells and groups were asked for, although equal rows of a
        matrix product may differ in their last bits: parts that were computed apart have the bytes of the whole.
        """
        passes: list[list[Injection | None]] = []
        for size, alike in groupby(groups, key=len):
            slots = min(MAX_SLOTS, max(1, min(PASS_ROWS, self.max_rows) // (len(vectors) * size)))
            shifts = [(group, _shift(vectors[0, list(group)]) if slots > 1 else 0) for group in alike]
            for _, here in groupby(sorted(set(cells)), key=lambda cell: cell.layer):
                of_slot: list[list[Injection]] = [[] for _ in range(slots)]
                for cell in here:
                    for group, shift in shifts:
                        of_slot[(_slot(cell.alpha, slots) + shift) % slots].append(Injection(cell, group))
                passes += map(list, zip_longest(*of_slot))
        return passes


def _shift(vectors: Tensor) -> int:
    """A number that depends on the vectors alone, and spreads several of them over the slots."""
    return hashlib.sha256(vectors.float().cpu().numpy().tobytes()).digest()[0]


def _slot(alpha: float, slots: int) -> int:
    """A slot that depends on alpha alone, and that neighbours of the usual grids (1 2 3, or 0.5 1 2) do not share.

    Each doubling of alpha goes one slot on, what is between two doublings goes once around, a sign half around.
    """
    mantissa, doublings = math.frexp(abs(alpha))  # |alpha| = mantissa * 2**doublings, mantissa in [0.5, 1)
    between = int((2 * mantissa - 1) * slots)
    sign = slots // 2 if alpha < 0 else 0
    return (doublings + between + sign) % slots


def _own_scores(batch: PromptBatch) -> TargetScores:
    """The prompts' own scores, (batch,)."""
    return target_scores(batch.lm, batch.residual[-1][:, 0], batch.targets)


def _unedited(batch: PromptBatch) -> LastToken:
    lm = batch.lm
    # (batch, n_layers, n_heads * head_dim) -> (batch, n_layers, n_heads, head_dim)
    outputs = torch.stack([batch.head_outputs[layer].to(lm.device) for layer in range(lm.n_layers)], 1)
    residual = torch.cat([part.to(lm.device) for part in batch.residual[1:]], 1)  # (batch, n_layers, d_model)
    return LastToken(_own_scores(batch), outputs.unflatten(-1, (lm.n_heads, lm.head_dim)), residual)


def _patched_rows(batch: PromptBatch, heads: Sequence[Head], values: Tensor) -> Tensor:
    """Final residual stream, (batch, 1 + n_heads, d_model), of the unpatched row and of one row a head.

    `heads` are sorted by layer; `values` is (n_layers, n_heads, head_dim).
    """
    lm, first = batch.lm, heads[0].layer
    rows = batch.residual[first]  # (batch, 1, d_model)
    entering = {layer: [h.head for h in group] for layer, group in groupby(heads, key=lambda h: h.layer)}
    for layer in range(first, lm.n_layers):
        here = entering.get(layer, [])
        if not here:
            rows = batch.run_block(layer, rows)
            continue
        new = torch.arange(rows.shape[1], rows.shape[1] + len(here))
        # A new row starts as a copy of row 0, the unpatched one.
        rows = torch.cat([rows, rows[:, :1].expand(-1, len(here), -1)], 1)

        def patch(head_outputs: Tensor, layer: int = layer, here: list[int] = here, new: Tensor = new) -> Tensor:
            # In place: the attention made this tensor for the projection alone.
            # (batch, rows, n_heads * head_dim) -> (batch, rows, n_heads, head_dim)
            by_head = head_outputs.view(*head_outputs.shape[:2], lm.n_heads, lm.head_dim)
            by_head[:, new, here] = values[layer, here].to(by_head.device)
            return head_outputs

        with edit_head_outputs(lm, layer, patch):
            rows = batch.run_block(layer, rows)
    return rows


def _changes_residual(batch: PromptBatch, heads: Sequence[Head], values: Tensor) -> Tensor:
    """Whether patching a head adds anything to the residual stream: (batch, n_heads) bool on the CPU."""
    lm, changes = batch.lm, []
    for layer, group in groupby(heads, key=lambda h: h.layer):
        here = [h.head for h in group]
        own = batch.head_outputs[layer].view(-1, lm.n_heads, lm.head_dim)  # (batch, n_heads, head_dim)
        weight = lm.out_weight(layer).reshape(lm.d_model, lm.n_heads, lm.head_dim)
        change = values[layer, here].to(own.device) - own[:, here]
        added = torch.einsum("bhk,dhk->bhd", change, weight[:, here])
        changes.append((added != 0).any(-1).cpu())
    return torch.cat(changes, 1)


def _inject_rows(batch: PromptBatch, vectors: Tensor, rows: Sequence[Injection | None]) -> TargetScores:
    """Scores, (batch, n_slots, vectors of a row), of rows that start behind a block with `alpha * vector` added.

    `vectors` is (batch, n_vectors, d_model). The rows are of one layer; an empty one is computed as alpha 0.
    """
    filled = next(row for row in rows if row is not None)
    layer = filled.cell.layer
    start = batch.residual[layer + 1]  # (batch, 1, d_model)
    vectors = vectors.to(start.device)
    which = [list((row or filled).vectors) for row in rows]
    alphas = torch.tensor([row.cell.alpha if row else 0.0 for row in rows], device=start.device, dtype=vectors.dtype)
    added = alphas[:, None, None] * vectors[:, which]  # (batch, n_slots, vectors of a row, d_model)
    moved = (start[:, None] + added).flatten(1, 2)  # (batch, n_slots * vectors of a group, d_model)
    for above in range(layer + 1, batch.lm.n_layers):
        moved = batch.run_block(above, moved)
    targets = batch.targets.repeat_interleave(moved.shape[1])
    return target_scores(batch.lm, moved.flatten(0, 1), targets).reshape(*added.shape[:3])
