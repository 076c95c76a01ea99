"""Floating-point operations that any exact engine needs, counted from the model's shape.

A multiply-add counts as two. Element-wise operations (norms, activations, softmax) are left out; because of them, even
a perfect program stays below the peak of matrix products.
"""

from collections.abc import Sequence

from fv.interventions.engine import Cell, Head
from fv.pricing.shape import Shape


def prefix_flops(shape: Shape, n_prefix: int) -> int:
    """Operations of running a prefix once; in the last layer, keys and values only."""
    layers = shape.n_layers - 1
    attention = layers * causal_attention_flops(shape, n_prefix)
    return 2 * n_prefix * (layers * shape.block_weights + shape.key_value_weights) + attention


def causal_attention_flops(shape: Shape, n_tokens: int) -> int:
    """Operations of one layer's causal attention over `n_tokens` tokens."""
    return 4 * (n_tokens * (n_tokens + 1) // 2) * shape.attention_width


def row_flops(shape: Shape, n_prefix: int, first_layer: int) -> int:
    """Operations of one row from block `first_layer` on: blocks, attention over prefix and self, unembedding."""
    layers = shape.n_layers - first_layer
    attention = 4 * (n_prefix + 1) * shape.attention_width
    return layers * (2 * shape.block_weights + attention) + 2 * shape.readout_weights


def cie_flops(shape: Shape, n_tokens: int, heads: Sequence[Head]) -> int:
    """Operations of one trial of the head sweep: prefix, unpatched row, one row per head."""
    n_prefix = n_tokens - 1
    rows = row_flops(shape, n_prefix, 0) + sum(row_flops(shape, n_prefix, head.layer) for head in heads)
    return prefix_flops(shape, n_prefix) + rows


def injection_flops(shape: Shape, n_tokens: int, n_vectors: int, cells: Sequence[Cell]) -> int:
    """Operations of one trial of the injection grid: prefix, unedited row, one row per vector and cell."""
    n_prefix = n_tokens - 1
    rows = sum(row_flops(shape, n_prefix, cell.layer + 1) for cell in cells) * n_vectors
    return prefix_flops(shape, n_prefix) + row_flops(shape, n_prefix, 0) + rows


def forward_flops(shape: Shape, n_tokens: int) -> int:
    """Operations of one full forward of a prompt, with logits at the last token."""
    attention = shape.n_layers * causal_attention_flops(shape, n_tokens)
    return 2 * n_tokens * shape.n_layers * shape.block_weights + attention + 2 * shape.readout_weights


def scoring_flops(shape: Shape, n_tokens: int, points: int = 0) -> int:
    """Operations that scoring all heads by gradient adds to a prefix and its unedited row.

    These are a second pass of the row, and a backward pass, which costs the same since weights have no gradients. With
    `points` integration points, there are that many rows per layer, run forward and backward from their layer on.
    """
    n_prefix, readout = n_tokens - 1, 2 * shape.readout_weights
    if not points:
        return 2 * row_flops(shape, n_prefix, 0)
    return points * sum(3 * row_flops(shape, n_prefix, layer) - readout for layer in range(shape.n_layers))
