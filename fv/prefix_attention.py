"""Attention in which many copies of a last token share one prefix (step 3 of `fv.shared_prefix`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from fv.errors import ModelError
from fv.models.language_model import LanguageModel

ATTENTION = "fv_shared_prefix"


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


@contextmanager
def shared_prefix_mode(lm: LanguageModel) -> Iterator[None]:
    """Switch the model to `shared_prefix_attention`, and back."""
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)
