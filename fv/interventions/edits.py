"""Edits of a model's hidden states, and passes in which each row's last prompt token has one (spec section 1).

An engine (`fv.interventions.engine`) runs one kind of edit at many heads or cells, which say where. An edit here says
where and what; in the passes of `edited_rows`, rows may be edited in different ways and layers. `editing` lets the same
edits act in whatever a model's user runs.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from fv.interventions.hooks import edit_block_output, edit_head_outputs
from fv.models.language_model import LanguageModel


@dataclass(frozen=True, eq=False)
class AddVector:
    """Add a vector to the residual stream behind block `layer`.

    Example:
        >>> with lm.edited(fv.AddVector(11, 3 * torch.ones(lm.d_model))):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        vector: (d_model,), a floating-point tensor (no list and no array); cast to the model's number format.
        prompt_ending: what the prompts of the vector's template end with, such as "\\nA:"; `generate` warns of others.
    """

    layer: int
    vector: Tensor
    prompt_ending: str | None = None


@dataclass(frozen=True, eq=False)
class ReplaceResidual:
    """Move the residual stream h behind block `layer` towards a vector: h + share * (vector - h).

    Example:
        >>> with lm.edited(fv.ReplaceResidual(11, torch.ones(lm.d_model), share=0.5)):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        layer: the block, from 0.
        vector: (d_model,), a floating-point tensor (no list and no array); cast to the model's number format.
        share: how far; 1 puts the vector in the residual stream's place.
    """

    layer: int
    vector: Tensor
    share: float = 1.0


@dataclass(frozen=True, eq=False)
class SetHeads:
    """Set the outputs of some heads at once.

    Example:
        >>> with lm.edited(fv.SetHeads(((11, 0), (11, 2)), torch.zeros(lm.n_layers, lm.n_heads, lm.head_dim))):
        ...     text = lm.generate("Q: hot\\nA:", max_new_tokens=1)

    Attributes:
        heads: (layer, head) of each.
        values: (n_layers, n_heads, head_dim), what the heads are set to; a floating-point tensor, of which only the
            values of `heads` are read.
    """

    heads: tuple[tuple[int, int], ...]
    values: Tensor


AnyEdit = AddVector | ReplaceResidual | SetHeads
"""An edit: what is done, and where."""
LastTokenEdit = AnyEdit | None
"""An edit of a row; None leaves it as it is."""


@contextmanager
def edited_rows(lm: LanguageModel, edits: Sequence[LastTokenEdit], at: int = 0) -> Iterator[None]:
    """Run the model with row r of every prompt edited by `edits[r]`, at position `at` of what is run.

    A batch is (n_prompts * n_rows, positions), the rows of a prompt next to one another.

    Raises:
        ModelError: an edited module took no part in the forward pass.
    """
    blocks: dict[int, list[int]] = defaultdict(list)
    heads: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, edit in enumerate(edits):
        if isinstance(edit, SetHeads):
            for layer, head in edit.heads:
                heads[layer].append((row, head))
        elif edit is not None:
            blocks[edit.layer].append(row)
    with ExitStack() as stack:
        for layer, pairs in heads.items():
            stack.enter_context(edit_head_outputs(lm, layer, _set_heads(lm, edits, layer, pairs, at)))
        for layer, rows in blocks.items():
            stack.enter_context(edit_block_output(lm, layer, _change_residual(lm, edits, rows, at)))
        yield


def _set_heads(
    lm: LanguageModel, edits: Sequence[LastTokenEdit], layer: int, pairs: list[tuple[int, int]], at: int
) -> Callable[[Tensor], Tensor]:
    rows, heads = zip(*pairs, strict=True)
    values = torch.stack([edits[row].values[layer, head] for row, head in pairs])  # type: ignore[union-attr]
    values = values.to(lm.device, lm.dtype)  # (n_pairs, head_dim)

    def edit(head_outputs: Tensor) -> Tensor:
        # (n_prompts * n_rows, positions, n_heads * head_dim) -> (n_prompts, n_rows, positions, n_heads, head_dim)
        by_row = head_outputs.clone().unflatten(0, (-1, len(edits))).unflatten(-1, (lm.n_heads, lm.head_dim))
        by_row[:, list(rows), at, list(heads)] = values.to(by_row.device)
        return by_row.flatten(-2).flatten(0, 1)

    return edit


def _change_residual(
    lm: LanguageModel, edits: Sequence[LastTokenEdit], rows: list[int], at: int
) -> Callable[[Tensor], Tensor]:
    vectors = torch.stack([edits[row].vector for row in rows]).to(lm.device, lm.dtype)  # type: ignore[union-attr]
    # How much of a replaced residual stream goes; an added vector takes nothing away.
    shares = torch.tensor(
        [own.share if isinstance(own := edits[row], ReplaceResidual) else torch.nan for row in rows],
        device=lm.device,
        dtype=lm.dtype,
    )[:, None]  # (n_rows_here, 1)

    def edit(residual: Tensor) -> Tensor:
        # (n_prompts * n_rows, positions, d_model) -> (n_prompts, n_rows, positions, d_model)
        by_row = residual.clone().unflatten(0, (-1, len(edits)))
        here = by_row[:, rows, at]
        there, share = vectors.to(here.device), shares.to(here.device)
        replaced = torch.where(share == 1, there, here + share * (there - here))
        by_row[:, rows, at] = torch.where(share.isnan(), here + there, replaced)
        return by_row.flatten(0, 1)

    return edit
