"""Rows of edited last tokens on prompts that were run (step 2 of `fv.interventions.shared_prefix`).

A row is a last prompt token under one edit, with the tokens after it if there are any. Before the first block whose
result its edit changes, it equals the unedited row. So it enters at that block, next to rows that have entered before.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from fv.interventions.edits import (
    AddVector,
    LastTokenEdit,
    ReplaceResidual,
    SetHeads,
    first_block,
    heads_setter,
    residual_changer,
)
from fv.interventions.hooks import edit_head_outputs
from fv.interventions.prompt_batch import Continuation, PromptBatch


def run_rows(prompts: PromptBatch | Continuation, edits: Sequence[LastTokenEdit]) -> Tensor:
    """Run rows, one per edit; returns their final residual stream, before the final norm.

    An unedited row enters at the lowest block of all rows, so that it is rounded in the same way.

    Returns:
        (batch, n_edits, n_positions, d_model).
    """
    n_layers, n = prompts.lm.n_layers, prompts.n_positions
    lowest = min((first_block(edit) for edit in edits if edit is not None), default=n_layers)
    entering: dict[int, list[int]] = defaultdict(list)
    for i, edit in enumerate(edits):
        entering[lowest if edit is None else first_block(edit)].append(i)
    order: list[int] = []
    rows = prompts.residual[lowest][:, :0]  # (batch, rows that have entered * n_positions, d_model)
    for layer in range(lowest, n_layers + 1):
        if new := entering.get(layer):
            starts = _starts(prompts, layer, [edits[i] for i in new])
            rows = torch.cat([rows.to(starts.device), starts], 1)
            order += new
        if layer < n_layers:
            with _heads_set(prompts, layer, [edits[i] for i in order]):
                rows = prompts.run_block(layer, rows)
    # (batch, n_edits * n_positions, d_model) -> (batch, n_edits, n_positions, d_model)
    return rows.unflatten(1, (-1, n))[:, torch.tensor(order).argsort().to(rows.device)]


def _starts(prompts: PromptBatch | Continuation, layer: int, edits: Sequence[LastTokenEdit]) -> Tensor:
    """Rows as they enter block `layer`: (batch, n_edits * n_positions, d_model)."""
    # (batch, n_positions, d_model) -> (batch, n_edits, n_positions, d_model)
    starts = prompts.residual[layer][:, None].repeat(1, len(edits), 1, 1)
    if any(isinstance(edit, AddVector | ReplaceResidual) for edit in edits):
        residual_changer(prompts.lm, edits, layer - 1, at=0)(starts)
    return starts.flatten(1, 2)


def _heads_set(
    prompts: PromptBatch | Continuation, layer: int, edits: Sequence[LastTokenEdit]
) -> AbstractContextManager[None]:
    """Set the rows' heads of a layer by their edits, for as long as the block lasts."""
    lm, n = prompts.lm, prompts.n_positions
    if not any(isinstance(edit, SetHeads) and any(at == layer for at, _ in edit.heads) for edit in edits):
        return nullcontext()
    change = heads_setter(lm, edits, layer, at=0)
    shape = (n, lm.n_heads, lm.head_dim)  # found before the hook acts: a quantised projection is run to find it

    def set_heads(head_outputs: Tensor) -> Tensor:
        # In place: only the projection uses this tensor.
        # (batch, rows * n_positions, n_heads * head_dim) -> (batch, rows, n_positions, n_heads, head_dim)
        change(head_outputs.view(len(head_outputs), -1, *shape))
        return head_outputs

    return edit_head_outputs(lm, layer, set_heads)
