"""Attention in which many copies of a last token share one prefix (steps 1 and 3 of `shared_prefix`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import AttentionInterface

from fv.errors import EngineError, ModelError
from fv.models.language_model import LanguageModel

ATTENTION = "fv_shared_prefix"


@dataclass
class PrefixCache:
    """Keys and values of a batch of right-padded prompts, and which phase the attention is in.

    Attributes:
        lengths: (batch,) tokens of each prefix, that is of each prompt without its last token.
        stop_after: the layer whose keys and values end the prompt phase; None once rows are run.
        kept: per layer (keys, values), each (batch, n_kv_heads, longest prefix + 1, head_dim + 1); the extra
            position and feature stand for a row's own key and value, see `_attend_rows`. On the layer's device.
    """

    lengths: Tensor
    stop_after: int | None
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        longest = int(self.lengths.max())
        visible = torch.arange(longest + 1, device=self.lengths.device) < self.lengths[:, None]
        visible[:, -1] = True
        # (batch, 1, 1, longest + 1) bool, true where a row may look; None where that is everywhere.
        self.visible = None if visible.all() else visible[:, None, None]

    def keep(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Store a layer's keys and values of all prompt tokens, (batch, n_kv_heads, tokens, head_dim)."""
        # The last token's own are dropped: (batch, n_kv_heads, longest prefix + 1, head_dim + 1)
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
        attention_mask: unused; padding comes after a prompt's last token, and the cache hides it from rows.
        scaling: factor on the scores.
        fv_prefix: the cache, handed through the model's own keyword arguments.
        **kwargs: must not hold anything that changes attention (sinks, soft-capping, a window shorter than a prompt).

    Returns:
        (batch, positions, n_heads, head_dim), and None for the weights.
    """
    del attention_mask
    odd = [name for name in ("softcap", "s_aux", "position_bias") if kwargs.get(name) is not None]
    if fv_prefix is None or odd:
        raise ModelError(f"{type(module).__name__} cannot run on a shared prefix (unsupported: {odd or 'cache'}).")
    window = kwargs.get("sliding_window")
    if window is not None and (tokens := int(fv_prefix.lengths.max()) + 1) > window:
        raise EngineError(
            f"{type(module).__name__} has a sliding_window of {window} tokens and a prompt has {tokens}: "
            "the shared-prefix engine would look past it, and the expanded one does not."
        )
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
    """Attention of rows that see the prefix and themselves only; returns (batch, n_heads, rows, head_dim).

    Every row has a key of its own, which one matrix product over shared keys cannot hold. So a row's score on
    itself becomes one more feature of its query, which only the kept extra key has; and the extra value has only
    the extra feature, where the weight that the row gave itself comes out.
    """
    n_kv, rows = key.shape[1], query.shape[2]
    keys, values = cache.kept[layer]
    # Query heads that share a key-value head are adjacent: (batch, n_kv_heads, group, rows, head_dim)
    grouped = query.unflatten(1, (n_kv, -1))
    on_itself = (grouped * key[:, :, None]).sum(-1, keepdim=True)
    # (batch, n_kv_heads, group * rows, head_dim + 1)
    asking = torch.cat([grouped, on_itself], -1).flatten(2, 3)
    visible = None if cache.visible is None else cache.visible.to(keys.device)
    attended = scaled_dot_product_attention(asking, keys, values, attn_mask=visible, scale=scale)
    attended = attended.unflatten(2, (-1, rows))  # (batch, n_kv_heads, group, rows, head_dim + 1)
    return torch.addcmul(attended[..., :-1], attended[..., -1:], value[:, :, None]).flatten(1, 2)


@contextmanager
def shared_prefix_mode(lm: LanguageModel) -> Iterator[None]:
    """Switch the model to `shared_prefix_attention`, and back."""
    before = lm.model.config._attn_implementation
    lm.model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)
