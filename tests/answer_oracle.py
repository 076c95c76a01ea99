"""One full forward under one edit: what scores of answers are compared with."""

from collections.abc import Callable

import torch
from torch import Tensor

from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual, SetHeads
from fv.interventions.hooks import edit_block_output, edit_head_outputs
from fv.models.language_model import LanguageModel


def oracle(lm: LanguageModel, ids: list[int], behind: list[int], edit: LastTokenEdit) -> Tensor:
    """Logits from the last prompt token on, (1 + n_behind, vocabulary), of one full forward without a cache."""
    at = len(ids) - 1

    def change(residual: Tensor) -> Tensor:
        edited = residual.clone()
        if isinstance(edit, ReplaceResidual):
            edited[0, at] = (1 - edit.share) * residual[0, at] + edit.share * edit.vector
        elif isinstance(edit, AddVector):
            edited[0, at] = residual[0, at] + edit.vector
        return edited

    def run() -> Tensor:
        return lm.model(input_ids=torch.tensor([ids + behind]), use_cache=False).logits[0, at:]

    if isinstance(edit, SetHeads):
        return set_heads(lm, edit, at, sorted({layer for layer, _ in edit.heads}), run)
    if edit is None:
        return run()
    assert isinstance(edit, AddVector | ReplaceResidual)
    with edit_block_output(lm, edit.layer, change):
        return run()


def set_heads(lm: LanguageModel, edit: SetHeads, at: int, layers: list[int], run: Callable[[], Tensor]) -> Tensor:
    if not layers:
        return run()

    def change(head_outputs: Tensor) -> Tensor:
        edited = head_outputs.clone()
        for layer, head in edit.heads:
            if layer == layers[0]:
                edited[0, at, lm.head_slice(head)] = torch.as_tensor(edit.values)[layer, head]
        return edited

    with edit_head_outputs(lm, layers[0], change):
        return set_heads(lm, edit, at, layers[1:], run)
