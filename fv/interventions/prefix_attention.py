"""Prefix attention: many copies of a last token, with the tokens after them, share one prefix.

These are steps 1 and 3 of `fv.interventions.shared_prefix`.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from fv.errors import ModelError
from fv.models.language_model import LanguageModel

ATTENTION = "fv_shared_prefix"


@dataclass
class PrefixCache:
    """Keys and values of a batch of right-padded prompts, and the phase of the attention.

    Attributes:
        lengths: (batch,) number of tokens of each prefix, the prompt without its last token.
        stop_after: the layer whose keys and values end the prompt phase; None in the phase of rows.
        kept: per layer (keys, values), each (batch, n_kv_heads, longest prefix + 1, head_dim + 1), on the layer's
            device; the extra position and feature stand for a row's own key and value (`_attend_rows`).
        n_positions: tokens of a row: its last prompt token, and the tokens after it.
    """

    lengths: Tensor
    stop_after: int | None
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    n_positions: int = 1

    def __post_init__(self) -> None:
        longest, n = int(self.lengths.max()), self.n_positions
        visible = torch.arange(longest + n, device=self.lengths.device) < self.lengths[:, None]
        visible[:, -n:] = True
        # (batch, 1, 1, longest + n_positions) bool, true at positions that rows see; None if they see all.
        self.visible = None if visible.all() else visible[:, None, None]

    def continued(self, n_positions: int) -> "PrefixCache":
        """A cache of the same keys and values, for rows of `n_positions` tokens."""
        return PrefixCache(self.lengths, None, self.kept, n_positions)

    def of_rows(self, layer: int) -> tuple[Tensor, Tensor]:
        """A layer's (keys, values), each (batch, n_kv_heads, longest prefix + n, head_dim + n); n is `n_positions`."""
        n, kept = self.n_positions, self.kept[layer]
        if n == 1:
            return kept
        found = [pad(part[:, :, :-1, :-1], (0, n, 0, n)) for part in kept]
        for part in found:
            part[:, :, -n:, -n:] = torch.eye(n, dtype=part.dtype, device=part.device)
        return found[0], found[1]

    def keep(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store a layer's keys and values of all prompt tokens, (batch, n_kv_heads, tokens, head_dim)."""
        # Without the last token's: (batch, n_kv_heads, longest prefix + 1, head_dim + 1)
        kept = [pad(part[:, :, :-1], (0, 1, 0, 1)) for part in (key, value)]
        for part in kept:
            part[:, :, -1, -1] = 1
        self.kept[layer] = (kept[0], kept[1])


class PromptDoneError(Exception):
    """Ends the forward of the prompts as soon as the last layer's keys and values are known."""


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
    """Causal attention of prompts, or of independent rows over (prefix, self).

    Args:
        module: the attention module; its `layer_idx` says which layer this is.
        query: (batch, n_heads, positions, head_dim).
        key: (batch, n_kv_heads, positions, head_dim).
        value: like `key`.
        attention_mask: unused; padding comes after a prompt's last token, and the cache hides it from rows. The batches
            of prompts check that the model's own masks hide nothing else (`fv.interventions.masks`).
        scaling: factor on the scores.
        fv_prefix: the cache, passed through the model's own keyword arguments.
        **kwargs: must not hold anything that changes attention (sinks, soft-capping, position biases).

    Returns:
        (batch, positions, n_heads, head_dim), and None for the weights.

    Raises:
        ModelError: there is no cache, or an argument that is not supported.
        PromptDoneError: the keys and values of the layer `stop_after` are kept.
    """
    del attention_mask
    odd = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if fv_prefix is None or odd:
        raise ModelError(f"{type(module).__name__} cannot run on a shared prefix (unsupported: {odd or 'cache'}).")
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if fv_prefix.stop_after is None:
        return _attend_rows(query, key, value, fv_prefix, layer, scale).transpose(1, 2), None
    fv_prefix.keep(layer, key, value)
    if layer == fv_prefix.stop_after:
        raise PromptDoneError
    grouped = query.shape[1] != key.shape[1]
    attended = scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=grouped)
    return attended.transpose(1, 2), None


AttentionInterface.register(ATTENTION, shared_prefix_attention)


def _attend_rows(query: Tensor, key: Tensor, value: Tensor, cache: PrefixCache, layer: int, scale: float) -> Tensor:
    """Attention of rows that see only the prefix and themselves; returns (batch, n_heads, rows * n, head_dim).

    A row's n tokens are next to one another. Every row has n keys of its own, but one matrix product can only use keys
    that all rows share. So a token's scores on its own row are appended to its query as n features, and n extra shared
    keys each select one of them. The n extra values have only n extra features, in which the weights of the row's own
    tokens come out.
    """
    n_kv, n = key.shape[1], cache.n_positions
    keys, values = cache.of_rows(layer)
    # Query heads that share a key-value head are adjacent: (batch, n_kv_heads, group, rows, n, head_dim)
    grouped = query.unflatten(1, (n_kv, -1)).unflatten(3, (-1, n))
    own_keys, own_values = (part.unflatten(2, (-1, n))[:, :, None] for part in (key, value))
    on_itself = _own_scores(grouped, own_keys)  # (batch, n_kv_heads, group, rows, n, n)
    # (batch, n_kv_heads, group * rows * n, head_dim + n)
    asking = torch.cat([grouped, on_itself], -1).flatten(2, 4)
    visible = None if cache.visible is None else cache.visible.to(keys.device)
    attended = scaled_dot_product_attention(asking, keys, values, attn_mask=visible, scale=scale)
    attended = attended.view(*grouped.shape[:-1], -1)  # (batch, n_kv_heads, group, rows, n, head_dim + n)
    of_prefix, weights = attended[..., :-n], attended[..., -n:]
    whole = torch.addcmul(of_prefix, weights, own_values) if n == 1 else of_prefix + weights @ own_values
    return whole.flatten(3, 4).flatten(1, 2)


def _own_scores(query: Tensor, key: Tensor) -> Tensor:
    """Scores of each row's tokens on one another, lowest for later tokens: (…, rows, n, n)."""
    n = query.shape[-2]
    if n == 1:  # a product of one query and one key per row: element by element is faster
        return (query * key).sum(-1, keepdim=True)
    later = torch.ones(n, n, dtype=torch.bool, device=query.device).triu(1)
    return (query @ key.mT).masked_fill(later, torch.finfo(query.dtype).min)


def shared_prefix_mode(lm: LanguageModel) -> AbstractContextManager[None]:
    """Switch the model to `shared_prefix_attention` for as long as the block lasts."""
    return attending_by(lm, ATTENTION)


@contextmanager
def attending_by(lm: LanguageModel, implementation: str) -> Iterator[None]:
    """Switch the model to an implementation of attention for as long as the block lasts."""
    before = lm.model.config._attn_implementation
    if before == implementation:
        yield
        return
    lm.model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)
