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

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from fv.errors import ModelError
from fv.hooks import edit_head_outputs, record_head_outputs, residual_of
from fv.models.language_model import LanguageModel
from fv.sweep import Advance, Cell, Head, Prompt, TargetScores, ignore_progress

ATTENTION = "fv_shared_prefix"
MAX_LOGITS = 2**25
"""Most logits alive at once (128 MB in float32)."""


@dataclass
class PrefixCache:
    """Keys and values of a batch of prefixes, and which phase the attention is in.

    Attributes:
        is_pad: (batch, prefix) bool, true at left-padding.
        kept: per layer (keys, values), each (batch, n_kv_heads, prefix, head_dim).
        stop_after: the layer whose keys and values end the prefix phase; None once rows are run.
    """

    is_pad: Tensor
    stop_after: int | None
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


class PrefixDoneError(Exception):
    """Ends the prefix forward as soon as the last layer's keys and values are known."""


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    fv_prefix: PrefixCache | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention over a prefix, or of independent rows over (prefix, self).

    Args:
        module: the attention module; its `layer_idx` says which layer this is.
        query: (batch, n_heads, positions, head_dim).
        key: (batch, n_kv_heads, positions, head_dim).
        value: like `key`.
        attention_mask: unused; the cache knows the padding.
        scaling: factor on the scores.
        fv_prefix: the cache, handed through the model's own keyword arguments.
        **kwargs: must not hold anything that changes attention (windows, sinks, soft-capping).

    Returns:
        (batch, positions, n_heads, head_dim), and None for the weights.
    """
    del attention_mask
    odd = [name for name in ("sliding_window", "softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if fv_prefix is None or odd:
        raise ModelError(f"{type(module).__name__} cannot run the shared-prefix sweep (unsupported: {odd or 'cache'}).")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if fv_prefix.stop_after is None:
        return _attend_rows(query, key, value, fv_prefix, layer, scale).transpose(1, 2), None
    fv_prefix.kept[layer] = (key, value)
    if layer == fv_prefix.stop_after:
        raise PrefixDoneError
    return _attend_prefix(query, key, value, fv_prefix.is_pad, scale).transpose(1, 2), None


AttentionInterface.register(ATTENTION, shared_prefix_attention)


def _attend_prefix(query: Tensor, key: Tensor, value: Tensor, is_pad: Tensor, scale: float) -> Tensor:
    """Causal attention of left-padded prefixes; returns (batch, n_heads, prefix, head_dim)."""
    grouped = query.shape[1] != key.shape[1]
    if not is_pad.any():
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)
    n = query.shape[2]
    causal = torch.ones(n, n, dtype=torch.bool, device=query.device).tril()
    # A padding position sees itself, so that its softmax stays finite; nothing reads it.
    own = torch.eye(n, dtype=torch.bool, device=query.device)
    allowed = (causal & ~is_pad[:, None, :]) | own  # (batch, prefix, prefix)
    return scaled_dot_product_attention(query, key, value, attn_mask=allowed[:, None], scale=scale, enable_gqa=grouped)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, cache: PrefixCache, layer: int, scale: float) -> Tensor:
    """Attention of rows that see the prefix and themselves only; returns (batch, n_heads, rows, head_dim)."""
    batch, n_heads, rows, width = query.shape
    n_kv = key.shape[1]
    group = n_heads // n_kv  # query heads that share one key-value head, adjacent in the head axis
    prefix_key, prefix_value = cache.kept.get(layer, (key[:, :, :0], value[:, :, :0]))
    grouped_query = query.reshape(batch, n_kv, group, rows, width) * scale
    flat_query = grouped_query.reshape(batch, n_kv, group * rows, width)
    to_prefix = flat_query @ prefix_key.transpose(-1, -2)  # (batch, n_kv, group * rows, prefix)
    if cache.is_pad.any():
        to_prefix = to_prefix.masked_fill_(cache.is_pad[:, None, None, :], float("-inf"))
    to_self = (grouped_query * key[:, :, None]).sum(-1).reshape(batch, n_kv, group * rows, 1)
    softmax_dtype = torch.promote_types(query.dtype, torch.float32)
    weights = torch.cat([to_prefix, to_self], -1).softmax(-1, dtype=softmax_dtype).to(query.dtype)
    from_prefix = weights[..., :-1] @ prefix_value  # (batch, n_kv, group * rows, head_dim)
    from_self = weights[..., -1:].view(batch, n_kv, group, rows, 1) * value[:, :, None]
    # (batch, n_kv, group, rows, head_dim) -> (batch, n_heads, rows, head_dim)
    return (from_prefix.view_as(from_self) + from_self).view(batch, n_heads, rows, width)


class PromptBatch:
    """Prompts run once, unedited, ready for rows on top of their last token.

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
        with shared_prefix_mode(lm):
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


@contextmanager
def shared_prefix_mode(lm: LanguageModel) -> Iterator[None]:
    """Switch the model to `shared_prefix_attention`, and back."""
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)


class SharedPrefixSweep:
    """Implements `fv.sweep.Sweep`; at most `max_rows` token rows go through the model in one pass."""

    def __init__(self, lm: LanguageModel, max_rows: int) -> None:
        self.lm = lm
        self.max_rows = max_rows

    @torch.no_grad()
    def last_token(self, prompts: Sequence[Prompt]) -> tuple[TargetScores, Tensor]:
        lm, scores, outputs = self.lm, [], []
        for part in self._batches(prompts, rows_each=1):
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
            batch = PromptBatch(self.lm, part)
            # Row 0 of each chunk is the unpatched last token, so that a patch which changes nothing scores 0 exactly.
            chunks = [batch.readout(_patched_rows(batch, chunk, values)) for chunk in self._chunks(by_layer, reserve=1)]
            unpatched.append(
                _map(lambda s: torch.cat([c[:, :1].expand_as(c[:, 1:]) for c in s], 1)[:, columns], chunks)
            )
            patched.append(_map(lambda s: torch.cat([c[:, 1:] for c in s], 1)[:, columns], chunks))
            advance(len(part))
        return TargetScores.cat(unpatched), TargetScores.cat(patched)

    @torch.no_grad()
    def inject(
        self, prompts: Sequence[Prompt], vectors: Tensor, cells: Sequence[Cell], advance: Advance = ignore_progress
    ) -> tuple[TargetScores, TargetScores]:
        vectors = vectors.to(self.lm.device, self.lm.dtype)
        baseline, injected = [], []
        for part in self._batches(prompts, rows_each=len(vectors)):
            batch = PromptBatch(self.lm, part)
            baseline.append(batch.readout(batch.residual[-1]).reshape(len(part)))
            grid = []
            # A pass holds one cell: its numbers do not depend on which other cells were asked for.
            for cell in cells:
                chunks = [batch.readout(_injected_rows(batch, chunk, cell)) for chunk in self._chunks(vectors)]
                grid.append(_map(lambda s: torch.cat(s, 1), chunks))  # (prompts, n_vectors)
                advance(len(part) * len(vectors))
            injected.append(_map(lambda s: torch.stack(s, 2), grid))  # (prompts, n_vectors, n_cells)
        return TargetScores.cat(baseline), TargetScores.cat(injected)

    def _batches(self, prompts: Sequence[Prompt], rows_each: int) -> list[Sequence[Prompt]]:
        """Split prompts evenly so that neither rows nor prefix tokens of a batch exceed `max_rows`."""
        longest = max(len(prompt.token_ids) for prompt in prompts)
        most = max(1, self.max_rows // max(rows_each, longest))
        n_batches = -(-len(prompts) // most)
        edges = [len(prompts) * i // n_batches for i in range(n_batches + 1)]
        return [prompts[a:b] for a, b in pairwise(edges)]

    def _chunks(self, items: Any, reserve: int = 0) -> list[Any]:
        step = max(1, self.max_rows - reserve)
        return [items[start : start + step] for start in range(0, len(items), step)]


def _patched_rows(batch: PromptBatch, heads: Sequence[Head], values: Tensor) -> Tensor:
    """Final residual stream, (batch, 1 + n_heads, d_model), of the unpatched row and of one row a head.

    `heads` are sorted by layer; `values` is (n_layers, n_heads, head_dim).
    """
    lm, first = batch.lm, heads[0].layer
    rows = batch.residual[first]  # (batch, 1, d_model)
    entering = {layer: [h.head for h in group] for layer, group in groupby(heads, key=lambda h: h.layer)}
    with shared_prefix_mode(lm):
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


def _injected_rows(batch: PromptBatch, vectors: Tensor, cell: Cell) -> Tensor:
    """Final residual stream, (batch, n_vectors, d_model), after adding `alpha * vector` behind block `layer`."""
    rows = batch.residual[cell.layer + 1] + cell.alpha * vectors  # (batch, n_vectors, d_model)
    with shared_prefix_mode(batch.lm):
        for layer in range(cell.layer + 1, batch.lm.n_layers):
            rows = batch.run_block(layer, rows)
    return rows


def _map(combine: Callable[[list[Tensor]], Tensor], scores: Sequence[TargetScores]) -> TargetScores:
    """Apply `combine` to the log probabilities of `scores`, and to their ranks."""
    return TargetScores(combine([s.logprob for s in scores]), combine([s.rank for s in scores]))
