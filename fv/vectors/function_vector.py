"""Function vectors: what the chosen heads add to the residual stream on average (spec section 1).

FV = sum over the top-k heads of W_O[layer][:, slice of head] @ clean_mean[layer, head]. The projection's bias is
not added: it belongs to the layer, not to a head. Families that scale or normalise the attention output before they
add it are followed there, with the norm's scale at the clean mean (`LanguageModel.added_by`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fv.errors import ModelError
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel


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
    for layer in {head.layer for head in heads}:
        added = lm.added_by(layer, clean_mean[layer]).cpu()  # (n_heads, d_model)
        parts[layer] = added[[head.head for head in heads if head.layer == layer]].sum(0)
    return parts.to(clean_mean.dtype)


def function_vector(lm: LanguageModel, clean_mean: Tensor, heads: Sequence[Head]) -> Tensor:
    """The function vector (d_model,) of `heads`."""
    return vector_by_layer(lm, clean_mean, heads).sum(0)
