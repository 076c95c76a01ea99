"""One full forward under one edit: what scores of answers are compared with."""

import torch
from torch import Tensor

from fv.interventions.edits import LastTokenEdit, ReplaceResidual, SetHeads
from fv.interventions.hooks import edit_block_output, edit_head_outputs
from fv.models.language_model import LanguageModel


def oracle(lm: LanguageModel, ids: list[int], behind: list[int], edit: LastTokenEdit) -> Tensor:
    """Logits from the last prompt token on, (1 + n_behind, vocabulary), of one full forward without a cache."""
    at = len(ids) - 1

    def change(residual: Tensor) -> Tensor:
        edited = residual.clone()
        if isinstance(edit, ReplaceResidual):
            edited[0, at] = (1 - edit.share) * residual[0, at] + edit.share * edit.vector
        else:
            edited[0, at] = residual[0, at] + edit.vector
        return edited

    def run() -> Tensor:
        return lm.model(input_ids=torch.tensor([ids + behind]), use_cache=False).logits[0, at:]

    if isinstance(edit, SetHeads):
        return set_heads(lm, edit, at, sorted({head.layer for head in edit.heads}), run)
    if edit is None:
        return run()
    with edit_block_output(lm, edit.layer, change):
        return run()


def set_heads(lm: LanguageModel, edit: SetHeads, at: int, layers: list[int], run) -> Tensor:
    if not layers:
        return run()

    def change(head_outputs: Tensor) -> Tensor:
        edited = head_outputs.clone()
        for head in edit.heads:
            if head.layer == layers[0]:
                edited[0, at, lm.head_slice(head.head)] = edit.values[head.layer, head.head]
        return edited

    with edit_head_outputs(lm, layers[0], change):
        return set_heads(lm, edit, at, layers[1:], run)
