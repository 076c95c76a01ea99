"""Gradients of log p(target) at rows, for scores of heads and for training."""

from typing import NamedTuple

import torch
from torch import Tensor

from fv.errors import ModelError
from fv.models.language_model import LanguageModel
from fv.models.placement import at_hand

TILE_LOGITS = 2**21
"""Logits that are differentiated at once: 8 MB in float32."""

NOT_TRAINED = "choose what needs no training, or load the model without quantisation"
"""Remedy if a model has no gradients to train by."""


class LogprobSlopes(NamedTuple):
    """Log probability of a target after each row, and its gradient at the row.

    Attributes:
        logprob: (batch, n_rows), float32 or wider.
        gradient: (batch, n_rows, d_model), like the rows.
    """

    logprob: Tensor
    gradient: Tensor


def logprob_slopes(lm: LanguageModel, rows: Tensor, targets: Tensor) -> LogprobSlopes:
    """log p(target) and its gradient at rows before the final norm, (batch, n_rows, d_model); targets are (batch,)."""
    found, slopes = [], []
    tile = max(1, TILE_LOGITS // lm.vocabulary)
    due = targets.repeat_interleave(rows.shape[1])
    with at_hand(lm.unembedding):
        for some, target in zip(rows.flatten(0, 1).split(tile), due.split(tile), strict=True):
            some = some.detach().requires_grad_()  # (n, d_model)
            with torch.enable_grad():
                logits = lm.logits(lm.final_norm(some), slice(0, lm.vocabulary))  # (n, vocabulary)
                exact = torch.promote_types(logits.dtype, torch.float32)
                logprob = logits.log_softmax(-1, dtype=exact).gather(-1, target.to(logits.device)[:, None])  # (n, 1)
                total = logprob.sum()
            slopes.append(torch.autograd.grad(total, some)[0])
            found.append(logprob.detach())
    return LogprobSlopes(torch.cat(found).view(rows.shape[:2]), torch.cat(slopes).view_as(rows))


def check_has_gradients(lm: LanguageModel, remedy: str) -> None:
    """Refuse a model with quantised weights on a CPU.

    Raises:
        ModelError: its weights have no gradients there; `remedy` ends the message.
    """
    weight = lm.out_projs[0].weight
    if not weight.dtype.is_floating_point and weight.device.type == "cpu":
        raise ModelError(f"{lm.name} has quantised weights on a CPU, which have no gradients: {remedy}.")
