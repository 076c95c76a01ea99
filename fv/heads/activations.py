"""Means over a relation's prompts: head outputs and residual stream at the last prompt token (spec section 1)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RelationMeans:
    """What a relation's fit prompts average to.

    Attributes:
        clean: head outputs over the clean prompts, (n_layers, n_heads, head_dim).
        corrupted: head outputs over the corrupted prompts, (n_layers, n_heads, head_dim).
        residual: the residual stream behind each block over the clean prompts, (n_layers, d_model).
        residual_norm: the norm of the residual stream behind each block over the zero-shot prompts, (n_layers,): what
            the norm of an injected vector is told against. None in runs that did not measure it.
    """

    clean: Tensor
    corrupted: Tensor
    residual: Tensor
    residual_norm: Tensor | None = None


def mean_over_prompts(values: Tensor) -> Tensor:
    """Average (n_prompts, ...) over prompts, in float64; returns float32 or wider, on the CPU."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    return values.double().mean(0).to(dtype).cpu()


def mean_of_means(means: Sequence[Tensor]) -> Tensor:
    """Unweighted mean of relations' means, all of one shape, such as (n_layers, n_heads, head_dim)."""
    return mean_over_prompts(torch.stack(list(means)))


def mean_of_relations(means: Sequence[RelationMeans]) -> RelationMeans:
    """Unweighted mean over relations."""
    norms = [m.residual_norm for m in means if m.residual_norm is not None]
    return RelationMeans(
        mean_of_means([m.clean for m in means]),
        mean_of_means([m.corrupted for m in means]),
        mean_of_means([m.residual for m in means]),
        mean_of_means(norms) if len(norms) == len(means) else None,
    )
