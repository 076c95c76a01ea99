"""Objectives of training: log p(target) of prompts under an edit, with gradients of the edit's parameters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fv.interventions import readout
from fv.interventions.edit import LastTokenEdit
from fv.interventions.equal_length_batch import EqualLengthBatch
from fv.interventions.gradients import logprob_slopes
from fv.interventions.metrics import target_logprob
from fv.interventions.prompt_batch import PromptBatch
from fv.interventions.rows import run_rows
from fv.interventions.training import EditOf, Parameters, Slopes
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class Part(NamedTuple):
    """Prompts that were run together: their places among all prompts, and their batch."""

    which: list[int]
    batch: PromptBatch | EqualLengthBatch


class RowObjective:
    """Implements `fv.interventions.training.Objective` by rows of last tokens on prompts that were run.

    Args:
        lm: the model; to be used in the mode in which the prompts were run.
        parts: all prompts.
    """

    def __init__(self, lm: LanguageModel, parts: Sequence[Part]) -> None:
        self._lm = lm
        self._parts = parts
        self._n = sum(len(part.which) for part in parts)

    def logprobs(self, edit: LastTokenEdit) -> Tensor:
        found = torch.empty(self._n, dtype=torch.float64)
        for which, batch in self._parts:
            rows = run_rows(batch, [edit])[:, 0, 0]  # (batch, 1, 1, d_model) -> (batch, d_model)
            found[which] = readout.target_logprobs(self._lm, rows, batch.targets)
        return found

    def slopes(self, edit_of: EditOf, parameters: Parameters, weights: Tensor) -> Slopes:
        logprobs, values = torch.empty(self._n, dtype=torch.float64), [*parameters.values()]
        sums = [torch.zeros_like(value) for value in values]
        for which, batch in self._parts:
            with torch.enable_grad():
                # A graph is freed after its use, so each part has its own edit.
                rows = run_rows(batch, [edit_of(parameters)])[:, 0]  # (batch, 1, d_model)
            found = logprob_slopes(self._lm, rows.detach(), batch.targets)
            logprobs[which] = found.logprob[:, 0].double().cpu()
            leaving = found.gradient * weights[which].to(found.gradient)[:, None, None]
            _add(sums, torch.autograd.grad(rows, values, leaving.to(rows.device)))
        return Slopes(logprobs, sums)


class FullForwards:
    """Implements `fv.interventions.training.Objective` by a forward of each whole prompt: the readable oracle.

    Args:
        logits_of: gives the logits after a prompt's last token, (1, vocabulary), under an edit of that token.
        prompts: the prompts.
    """

    def __init__(self, logits_of: Callable[[Prompt, LastTokenEdit], Tensor], prompts: Sequence[Prompt]) -> None:
        self._logits_of = logits_of
        self._prompts = prompts

    def logprobs(self, edit: LastTokenEdit) -> Tensor:
        return torch.stack([self._logprob(prompt, edit).double() for prompt in self._prompts])

    def slopes(self, edit_of: EditOf, parameters: Parameters, weights: Tensor) -> Slopes:
        logprobs, values = [], [*parameters.values()]
        sums = [torch.zeros_like(value) for value in values]
        for prompt, weight in zip(self._prompts, weights.tolist(), strict=True):
            with torch.enable_grad():
                logprob = self._logprob(prompt, edit_of(parameters))
            logprobs.append(logprob.detach().double())
            _add(sums, torch.autograd.grad(logprob, values, torch.full_like(logprob, weight)))
        return Slopes(torch.stack(logprobs), sums)

    def _logprob(self, prompt: Prompt, edit: LastTokenEdit) -> Tensor:
        return target_logprob(self._logits_of(prompt, edit)[0], torch.tensor(prompt.target))


def _add(sums: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    for total, gradient in zip(sums, gradients, strict=True):
        total += gradient
