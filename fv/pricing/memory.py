"""Memory above the weights while passes run, counted from the tensors that exist at the same time.

The number of rows that fit into memory is estimated differently, on purpose (`fv.interventions.memory.bytes_a_row`).
That estimate must be sufficient for any family, with prompts of 512 tokens and attention that keeps all of its scores,
or a run would fail. Here the aim is a price close to the measured memory: for 16 or more tokens per prompt, it is 0.35
to 0.85 of that estimate. For shorter prompts in a model of many layers it is up to twice the estimate, since the
prompts' residual streams are counted here; they fit into the half of the free memory that passes do not use.
"""

from fv.interventions.readout import TILE_LOGITS, TILE_ROWS
from fv.pricing.operations import PromptPass
from fv.pricing.shape import Shape

STREAMS = 3
"""Copies of the residual stream in a block: the input, the normalised input, and the output to be added."""
ATTENTION = 5
"""Tensors of the width of all heads in a row's attention: queries before and after rotation, queries with the extra
feature, their result, and the result with the row's own value (`fv.interventions.prefix_attention`)."""
LOGITS = 3
"""Copies of a tile of logits in float32: raw, compared, and exponentiated (`fv.interventions.readout`)."""
BESIDE = 8_000_000
"""Bytes of the libraries' own, in addition to tensors: the least that `python -m benchmarks.price` finds, in the grid.
A matrix library takes up to 22 MB at its first large product."""


def token_bytes(shape: Shape, n_tokens: int) -> int:
    """Bytes that one block needs while `n_tokens` tokens, or rows of one token each, run through it."""
    widest = max(shape.mlp_width, ATTENTION * shape.attention_width)
    return n_tokens * (STREAMS * shape.d_model + widest) * shape.itemsize


def prefix_bytes(shape: Shape, each: PromptPass) -> int:
    """Bytes that stay after prompts were run (`fv.interventions.prompt_batch.PromptBatch.n_bytes`).

    These are keys and values of all layers, with the extra position and feature, and the last token's residual streams
    and head outputs.
    """
    n, tokens = each
    keys_values = 2 * shape.n_layers * shape.n_kv_heads * tokens * (shape.head_dim + 1)
    last = (shape.n_layers + 1) * shape.d_model + shape.n_layers * shape.attention_width
    return n * (keys_values + last) * shape.itemsize


def cache_bytes(shape: Shape, n: int, n_tokens: int) -> int:
    """Bytes of keys and values of all layers, for `n` prompts or rows with their own copies, of `n_tokens` tokens."""
    return 2 * shape.n_layers * n * n_tokens * shape.n_kv_heads * shape.head_dim * shape.itemsize


def readout_bytes(shape: Shape, n_rows: int) -> int:
    """Bytes for reading rows: a tile of them after the final norm, and tiles of logits."""
    return min(n_rows, TILE_ROWS) * shape.d_model * shape.itemsize + LOGITS * TILE_LOGITS * 4
