"""Outputs of attention or MLP at the last token of unedited prompts, as edits of these places change them."""

from contextlib import ExitStack

import torch
from torch import Tensor

from fv.interventions.hooks import Change, edit_place
from fv.interventions.place import Part, Place
from fv.interventions.prompt_batch import PromptBatch
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


def outputs_of_batch(batch: PromptBatch, part: str) -> Tensor:
    """Outputs of a part of every block for prompts that were run, (batch, n_layers, d_model) on the CPU."""
    found: list[Tensor] = []
    for layer in range(batch.lm.n_layers):
        with edit_place(batch.lm, Place(layer, Part(part)), _noting(found)):
            batch.run_block(layer, batch.residual[layer])
    return torch.stack(found, 1)


def outputs_of_prompt(lm: LanguageModel, prompt: Prompt, part: str) -> Tensor:
    """Outputs of a part of every block in a forward of one prompt, (n_layers, d_model) on the CPU."""
    found: list[Tensor] = []
    with ExitStack() as stack:
        for layer in range(lm.n_layers):
            stack.enter_context(edit_place(lm, Place(layer, Part(part)), _noting(found)))
        lm.model.base_model(input_ids=torch.tensor([prompt.token_ids], device=lm.device), use_cache=False)
    return torch.cat(found)


def _noting(found: list[Tensor]) -> Change:
    """A change of nothing that appends the hidden states of the last position, (batch, d_model), to a list."""

    def note(hidden: Tensor) -> Tensor:
        found.append(hidden[:, -1].detach().cpu().clone())
        return hidden

    return note
