"""Rows of edited last tokens on prompts that were run (step 2 of `fv.interventions.shared_prefix`).

A row is a last prompt token under one edit, with the tokens after it if there are any. Before the first block whose
result its edit changes, it equals the unedited row. So it enters at that block, next to rows that have entered before.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from fv.interventions.edit import LastTokenEdit
from fv.interventions.equal_length_batch import EqualLengthBatch
from fv.interventions.place import Part, Place
from fv.interventions.prompt_batch import Continuation, PromptBatch
from fv.interventions.row_edits import RowEdits

INSIDE = [part for part in Part if part is not Part.residual]
"""Parts that are edited while a block runs."""


def run_rows(prompts: PromptBatch | Continuation | EqualLengthBatch, edits: Sequence[LastTokenEdit]) -> Tensor:
    """Run rows, one per edit; returns their final residual stream, before the final norm.

    An unedited row enters at the lowest block of all rows, so that it is rounded in the same way. With gradients
    enabled, the rows have a graph that ends where they enter. An `EqualLengthBatch` runs one row only.

    Returns:
        (batch, n_edits, n_positions, d_model).
    """
    n_layers, n = prompts.lm.n_layers, prompts.n_positions
    lowest = min((edit.first_block for edit in edits if edit is not None), default=n_layers)
    entries = [lowest if edit is None else edit.first_block for edit in edits]
    order = sorted(range(len(edits)), key=entries.__getitem__)
    row_edits, entering = RowEdits(prompts.lm, [edits[i] for i in order]), Counter(entries)

    def by_row(hidden: Tensor) -> Tensor:
        return hidden.unflatten(1, (-1, n))  # (batch, rows * n_positions, width) -> (batch, rows, n_positions, width)

    rows = prompts.residual[lowest][:, :0]  # (batch, rows that have entered * n_positions, d_model)
    for layer in range(lowest, n_layers + 1):
        if n_new := entering[layer]:
            starts = prompts.residual[layer].repeat(1, n_new, 1)  # (batch, n_new * n_positions, d_model)
            rows = torch.cat([rows.to(starts.device), starts], 1)
        if (after := Place(layer - 1, Part.residual)) in row_edits.places:
            rows = rows if n_new else rows.clone()  # the output of a block may be kept by hooks of the model's owner
            row_edits.change(after, by_row(rows))
        if layer < n_layers:
            # Only the projection reads head outputs; but a graph may hold them.
            in_place = [] if torch.is_grad_enabled() else [Part.heads]
            with row_edits.acting([Place(layer, part) for part in INSIDE], by_row, in_place):
                rows = prompts.run_block(layer, rows)
    return by_row(rows)[:, torch.tensor(order).argsort().to(rows.device)]
