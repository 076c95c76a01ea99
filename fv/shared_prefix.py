"""The fast exact sweep: a prompt's prefix is run once, edits are extra copies of its last token.

An edit at the last token cannot change an earlier position, so for a prompt of T tokens:

1. *Prefix.* The first T-1 tokens run once; each layer's keys and values are kept.
2. *Last token.* It runs once, unedited; each block's input and call arguments are kept.
3. *Rows.* Copies of the last token, one an edit, run as extra positions. A row sees the prefix and itself
   only, and enters at the layer that edits it: below, it would equal the unedited last token.
4. *Readout.* Final norm and unembedding of the rows, scored at the target.

Many prompts share a pass, left-padded. What is skipped is what no output needs: the last block's MLP, the
final norm and the unembedding of the prefix. Measured: spec section 1's CIE agrees with the naive loop
within 2e-5 in log p (`tests/test_shared_prefix.py`).
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from fv.errors import ModelError
from fv.hooks import edit_head_outputs, record_head_outputs, residual_of
from fv.models.language_model import LanguageModel
from fv.prefix_attention import PrefixCache, PrefixDoneError, shared_prefix_mode
from fv.sweep import Advance, Cell, Head, Prompt, TargetScores, check_vectors, ignore_progress

MAX_LOGITS = 2**25
"""Most logits alive at once (128 MB in float32)."""


class PromptBatch:
    """Prompts run once, unedited, ready for rows on top of their last token; lives in `shared_prefix_mode`.

    Attributes:
        residual: per layer the residual stream entering it, and last the one leaving the last block;
            each (batch, 1, d_model).
        head_outputs: per layer the last token's head outputs, (batch, n_heads * head_dim).
        targets: (batch,) target token ids.
    """

    def __init__(self, lm: LanguageModel, prompts: Sequence[Prompt]) -> None:
        self.lm = lm
        self.targets = torch.tensor([p.target for p in prompts], device=lm.device)
        lengths = torch.tensor([len(p.token_ids) for p in prompts], device=lm.device)
        n_prefix = int(lengths.max()) - 1
        # The padding token is any valid id: padding is masked, and never a last token.
        padded = [[0] * (n_prefix + 1 - len(p.token_ids)) + list(p.token_ids) for p in prompts]
        ids = torch.tensor(padded, device=lm.device)  # (batch, prefix + 1)
        positions = torch.arange(n_prefix + 1, device=lm.device) - (n_prefix + 1 - lengths)[:, None]
        self._cache = PrefixCache(is_pad=positions[:, :-1] < 0, stop_after=lm.n_layers - 1)
        self._calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.residual: list[Tensor] = []
        self.head_outputs: dict[int, Tensor] = {}
        if n_prefix:
            self._run_prefix(ids[:, :-1], positions[:, :-1].clamp(min=0))
        self._cache.stop_after = None
        self._run_last_token(ids[:, -1:], positions[:, -1:])

    def _run_prefix(self, ids: Tensor, positions: Tensor) -> None:
        try:
            self._run_base_model(ids, positions)
        except PrefixDoneError:
            return
        raise ModelError(f"model.spec={self.lm.spec.name} never reached attention layer {self._cache.stop_after}.")

    def _run_last_token(self, ids: Tensor, positions: Tensor) -> None:
        path = self.lm.spec.blocks

        def keep_call(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.residual.append(residual_of(args[0] if args else None, path))
            self._calls.append((args[1:], kwargs))

        def keep_output(_module: nn.Module, _args: Any, output: Any) -> None:
            self.residual.append(residual_of(output, path))

        handles = [block.register_forward_pre_hook(keep_call, with_kwargs=True) for block in self.lm.blocks]
        handles.append(self.lm.blocks[-1].register_forward_hook(keep_output))
        try:
            with record_head_outputs(self.lm, self.head_outputs):
                self._run_base_model(ids, positions)
        finally:
            for handle in handles:
                handle.remove()
        if len(self.residual) != self.lm.n_layers + 1:
            raise ModelError(f"{path} ran {len(self._calls)} blocks, where {self.lm.n_layers} are due.")

    def _run_base_model(self, ids: Tensor, positions: Tensor) -> None:
        self.lm.model.base_model(input_ids=ids, position_ids=positions, use_cache=False, fv_prefix=self._cache)

    def run_block(self, layer: int, rows: Tensor) -> Tensor:
        """Run block `layer` on rows (batch, n_rows, d_model) as the last token would run through it."""
        args, kwargs = self._calls[layer]
        return residual_of(self.lm.blocks[layer](rows, *args, **kwargs), self.lm.spec.blocks)

    def readout(self, rows: Tensor) -> TargetScores:
        """Score each prompt's target under its rows (batch, n_rows, d_model); returns (batch, n_rows) scores."""
        batch, n_rows, _ = rows.shape
        step = max(1, MAX_LOGITS // (self.lm.vocabulary * n_rows))
        scores = []
        for start in range(0, batch, step):
            part = rows[start : start + step].flatten(0, 1)  # (prompts * n_rows, d_model)
            targets = self.targets[start : start + step].repeat_interleave(n_rows)
            scores.append(TargetScores.of_logits(self.lm.unembedding(self.lm.final_norm(part)), targets))
        return TargetScores.cat(scores).reshape(batch, n_rows)


class SharedPrefixSweep:
    """Implements `fv.sweep.Sweep`; at most `max_rows` token rows go through the model in one pass."""

    def __init__(self, lm: LanguageModel, max_rows: int) -> None:
        self.lm = lm
        self.max_rows = max_rows

    @torch.no_grad()
    def last_token(self, prompts: Sequence[Prompt]) -> tuple[TargetScores, Tensor]:
        lm, scores, outputs = self.lm, [], []
        for part in self._batches(prompts, rows_each=1):
            with shared_prefix_mode(lm):
                batch = PromptBatch(lm, part)
            scores.append(batch.readout(batch.residual[-1])[:, 0])
            stacked = torch.stack([batch.head_outputs[layer] for layer in range(lm.n_layers)], 1)
            outputs.append(stacked.view(len(part), lm.n_layers, lm.n_heads, lm.head_dim))
        return TargetScores.cat(scores), torch.cat(outputs)

    @torch.no_grad()
    def patch_heads(
        self, prompts: Sequence[Prompt], head_values: Tensor, heads: Sequence[Head], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        values = head_values.to(self.lm.device, self.lm.dtype)
        by_layer = sorted(heads)
        columns = [by_layer.index(head) for head in heads]
        unpatched, patched = [], []
        for part in self._batches(prompts, rows_each=1 + len(heads)):
            before, after = [], []
            with shared_prefix_mode(self.lm):
                batch = PromptBatch(self.lm, part)
                for chunk in self._chunks(by_layer):
                    scores = batch.readout(_patched_rows(batch, chunk, values))
                    # Row 0 is unpatched. A patch that adds exactly nothing is unpatched too: equal rows of one
                    # matrix product may still differ in their last bits.
                    rows = torch.arange(1, len(chunk) + 1).where(_changes_residual(batch, chunk, values), 0)
                    before.append(scores[:, [0] * len(chunk)])
                    after.append(scores.take_along(rows))
            unpatched.append(TargetScores.cat(before, 1)[:, columns])
            patched.append(TargetScores.cat(after, 1)[:, columns])
            advance(len(part))
        return TargetScores.cat(unpatched), TargetScores.cat(patched)

    @torch.no_grad()
    def inject(
        self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        check_vectors(prompts, vectors, self.lm.d_model)
        vectors = vectors.to(self.lm.device, self.lm.dtype)
        n_vectors = vectors.shape[1]
        baseline, injected, done = [], [], 0
        for part in self._batches(prompts, rows_each=n_vectors):
            own = vectors[done : done + len(part)]  # (batch, n_vectors, d_model)
            done += len(part)
            grid = []
            with shared_prefix_mode(self.lm):
                batch = PromptBatch(self.lm, part)
                baseline.append(batch.readout(batch.residual[-1])[:, 0])
                # A pass holds one cell: its numbers do not depend on which other cells were asked for.
                for cell in cells:
                    chunks = own.split(self.max_rows, dim=1)
                    scores = [batch.readout(_injected_rows(batch, chunk, cell)) for chunk in chunks]
                    grid.append(TargetScores.cat(scores, 1))  # (batch, n_vectors)
                    advance(len(part) * n_vectors)
            injected.append(TargetScores.stack(grid, 2))  # (batch, n_vectors, n_cells)
        return TargetScores.cat(baseline), TargetScores.cat(injected)

    def _batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[Sequence[Prompt]]:
        """Split prompts evenly so that neither rows nor prefix tokens of a batch exceed `max_rows`."""
        longest = max(len(prompt.token_ids) for prompt in prompts)
        most = max(1, self.max_rows // max(rows_each, longest))
        n_batches = -(-len(prompts) // most)
        edges = [len(prompts) * i // n_batches for i in range(n_batches + 1)]
        return [prompts[a:b] for a, b in pairwise(edges)]

    def _chunks(self, heads: Sequence[Head]) -> list[Sequence[Head]]:
        """Heads in pieces that leave room for row 0."""
        step = self.max_rows - 1
        return [heads[start : start + step] for start in range(0, len(heads), step)]


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
            # (batch, rows, n_heads * head_dim) -> (batch, rows, n_heads, head_dim)
            by_head = head_outputs.clone().view(*head_outputs.shape[:2], lm.n_heads, lm.head_dim)
            by_head[:, new, here] = values[layer, here]
            return by_head.view_as(head_outputs)

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
        added = torch.einsum("bhk,dhk->bhd", values[layer, here] - own[:, here], weight[:, here])
        changes.append((added != 0).any(-1))
    return torch.cat(changes, 1).cpu()


def _injected_rows(batch: PromptBatch, vectors: Tensor, cell: Cell) -> Tensor:
    """Final residual stream of rows that start behind block `cell.layer` with `alpha * vector` added.

    `vectors` and the result are (batch, n_vectors, d_model).
    """
    rows = batch.residual[cell.layer + 1] + cell.alpha * vectors
    for layer in range(cell.layer + 1, batch.lm.n_layers):
        rows = batch.run_block(layer, rows)
    return rows
