"""Function vectors: what the chosen heads add to the residual stream on average (spec section 1).

FV = sum over the top-k heads of W_O[layer][:, slice of head] @ clean_mean[layer, head]. The projection's bias is
not added: it belongs to the layer, not to a head.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fv.errors import ModelError
from fv.models.language_model import LanguageModel
from fv.sweep import Head


def head_contribution(lm: LanguageModel, head: Head, head_output: Tensor) -> Tensor:
    """What one head's output (head_dim,) adds to the residual stream: (d_model,), float64."""
    weight = lm.out_weight(head.layer)[:, lm.head_slice(head.head)]  # (d_model, head_dim)
    return weight.double() @ head_output.to(weight.device).double()


def vector_by_layer(lm: LanguageModel, clean_mean: Tensor, heads: Sequence[Head]) -> Tensor:
    """The function vector split by the layer its heads are in.

    Args:
        lm: the model whose output projections are used.
        clean_mean: (n_layers, n_heads, head_dim).
        heads: the chosen heads.

    Returns:
        (n_layers, d_model) on the CPU; its sum over layers is the function vector.

    Raises:
        ModelError: the clean mean is of a model of another shape.
    """
    if clean_mean.shape != (lm.n_layers, lm.n_heads, lm.head_dim):
        raise ModelError(
            f"The clean mean is {tuple(clean_mean.shape)}, and {lm.name} has (n_layers, n_heads, head_dim) = "
            f"{(lm.n_layers, lm.n_heads, lm.head_dim)}: they are of different models."
        )
    parts = torch.zeros(lm.n_layers, lm.d_model, dtype=torch.float64)
    for head in heads:
        parts[head.layer] += head_contribution(lm, head, clean_mean[head.layer, head.head]).cpu()
    return parts.to(clean_mean.dtype)


def function_vector(lm: LanguageModel, clean_mean: Tensor, heads: Sequence[Head]) -> Tensor:
    """The function vector (d_model,) of `heads`."""
    return vector_by_layer(lm, clean_mean, heads).sum(0)
