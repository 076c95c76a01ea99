"""Floating-point operations that an exact engine cannot do without, counted from the model's shape.

A multiply-add counts as two. Element-wise work (norms, activations, softmax) is left out: it is what keeps a
perfect program below the matrix-product peak.
"""

from collections.abc import Sequence

from fv.interventions.engine import Cell, Head
from fv.models.language_model import LanguageModel


def block_weights(lm: LanguageModel) -> int:
    """Entries of one block's weight matrices: what a token is multiplied with."""
    return sum(p.numel() for p in lm.blocks[0].parameters() if p.ndim == 2)


def key_value_weights(lm: LanguageModel) -> int:
    """Entries of the matrices that make one layer's keys and values."""
    config = lm.model.config
    n_kv = getattr(config, "num_key_value_heads", lm.n_heads)
    return 2 * lm.d_model * n_kv * lm.head_dim


def prefix_flops(lm: LanguageModel, n_prefix: int) -> int:
    """Running a prefix once; in the last layer, keys and values only."""
    layers = lm.n_layers - 1
    attention = layers * 4 * (n_prefix * (n_prefix + 1) // 2) * lm.n_heads * lm.head_dim
    return 2 * n_prefix * (layers * block_weights(lm) + key_value_weights(lm)) + attention


def row_flops(lm: LanguageModel, n_prefix: int, first_layer: int) -> int:
    """One row from block `first_layer` up: blocks, attention over prefix and self, unembedding."""
    layers = lm.n_layers - first_layer
    attention = 4 * (n_prefix + 1) * lm.n_heads * lm.head_dim
    return layers * (2 * block_weights(lm) + attention) + 2 * lm.d_model * lm.vocabulary


def cie_flops(lm: LanguageModel, n_tokens: int, heads: Sequence[Head]) -> int:
    """One trial of the head sweep: prefix, unpatched row, one row a head."""
    n_prefix = n_tokens - 1
    rows = row_flops(lm, n_prefix, 0) + sum(row_flops(lm, n_prefix, head.layer) for head in heads)
    return prefix_flops(lm, n_prefix) + rows


def injection_flops(lm: LanguageModel, n_tokens: int, n_vectors: int, cells: Sequence[Cell]) -> int:
    """One trial of the injection grid: prefix, unedited row, one row a vector and cell."""
    n_prefix = n_tokens - 1
    rows = sum(row_flops(lm, n_prefix, cell.layer + 1) for cell in cells) * n_vectors
    return prefix_flops(lm, n_prefix) + row_flops(lm, n_prefix, 0) + rows


def forward_flops(lm: LanguageModel, n_tokens: int) -> int:
    """One full forward of a prompt, with logits at the last token."""
    attention = lm.n_layers * 4 * (n_tokens * (n_tokens + 1) // 2) * lm.n_heads * lm.head_dim
    return 2 * n_tokens * lm.n_layers * block_weights(lm) + attention + 2 * lm.d_model * lm.vocabulary


def scoring_flops(lm: LanguageModel, n_tokens: int, points: int = 0) -> int:
    """What scoring all heads by gradient adds to a prefix and its unedited row: a second pass of the row, and one back.

    The way back costs what the way there does, since no weight is differentiated; so does the readout's. Each of
    `points` on the way to the values takes a third pass.
    """
    row = row_flops(lm, n_tokens - 1, 0)
    return max(1, points) * 2 * row + points * row
