"""Memory above the weights while passes run, counted from what is in it at once.

How many rows fit is reckoned otherwise (`fv.interventions.memory.bytes_a_row`), and on purpose: that has to be enough
for any family, with attention that holds all of its scores and prompts of 512 tokens, or a run would break off. This is
what tensors of these passes do need, so that a price is near what is measured: from 16 tokens a prompt on, 0.35 to 0.85
of that. Of shorter prompts in a model of many layers it is up to twice that, since a prompt's residual streams are
counted here; the half of the free memory that passes leave alone has room for them.
"""

from fv.interventions.readout import TILE_LOGITS, TILE_ROWS
from fv.pricing.shape import Shape
from fv.pricing.work import PromptPass

STREAMS = 3
"""Copies of the residual stream that a block has at once: what entered, its norm, and what is added."""
ATTENTION = 5
"""Widths of all heads that attention has at once, of a row: queries before and after rotation, queries with the extra
feature, what they find, and that with the row's own value (`fv.interventions.prefix_attention`)."""
LOGITS = 3
"""Copies of a tile of logits in float32: as read, compared, and in exponentials (`fv.interventions.readout`)."""
BESIDE = 8_000_000
"""Bytes beside tensors, the libraries' own: the least that `python -m benchmarks.price` finds, in the grid; a matrix
library takes up to 22 MB when its first large product runs."""


def token_bytes(shape: Shape, n_tokens: int) -> int:
    """What one block has in memory while so many tokens, or rows of one, run through it."""
    widest = max(shape.mlp_width, ATTENTION * shape.attention_width)
    return n_tokens * (STREAMS * shape.d_model + widest) * shape.itemsize


def prefix_bytes(shape: Shape, each: PromptPass) -> int:
    """What running prompts leaves behind: keys and values of all layers with the extra place and feature, and the last
    token's residual streams and head outputs (`fv.interventions.prompt_batch.PromptBatch.n_bytes`)."""
    n, tokens = each
    keys_values = 2 * shape.n_layers * shape.n_kv_heads * tokens * (shape.head_dim + 1)
    last = (shape.n_layers + 1) * shape.d_model + shape.n_layers * shape.attention_width
    return n * (keys_values + last) * shape.itemsize


def cache_bytes(shape: Shape, n: int, n_tokens: int) -> int:
    """Keys and values of all layers of `n` prompts, or rows that have a copy each, of so many tokens."""
    return 2 * shape.n_layers * n * n_tokens * shape.n_kv_heads * shape.head_dim * shape.itemsize


def readout_bytes(shape: Shape, n_rows: int) -> int:
    """Reading rows: a tile of them behind the final norm, and tiles of logits."""
    return min(n_rows, TILE_ROWS) * shape.d_model * shape.itemsize + LOGITS * TILE_LOGITS * 4
