"""Means over a relation's prompts: head outputs and residual stream at the last prompt token (spec section 1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fv.errors import ConfigError
from fv.models.site import Site, TokenClass


@dataclass(frozen=True)
class PromptOutputs:
    """Head outputs of each averaged fit prompt, kept to compute the means of resampled prompts.

    Attributes:
        clean: head outputs on the clean prompts, (n_prompts, n_layers, n_heads, head_dim).
        corrupted: head outputs on the corrupted prompts, of the same shape.
    """

    clean: Tensor
    corrupted: Tensor


@dataclass(frozen=True)
class RelationMeans:
    """Means over a relation's fit prompts, at one class of tokens: the last one.

    Attributes:
        clean: mean head outputs over the clean prompts, (n_layers, n_heads, head_dim).
        corrupted: mean head outputs over the corrupted prompts, (n_layers, n_heads, head_dim).
        residual: mean residual stream after each block over the clean prompts, (n_layers, d_model).
        residual_norm: mean norm of the residual stream after each block over the zero-shot prompts, (n_layers,). The
            norm of an injected vector is expressed relative to it.
        zero_shot: mean head outputs over the zero-shot prompts, (n_layers, n_heads, head_dim).
        zero_shot_residual: mean residual stream after each block over the zero-shot prompts, (n_layers, d_model).
        prompts: the head outputs that `clean` and `corrupted` average; None for a mean over relations.
        token_class: the tokens at which all of them are read.
    """

    clean: Tensor
    corrupted: Tensor
    residual: Tensor
    residual_norm: Tensor
    zero_shot: Tensor
    zero_shot_residual: Tensor
    prompts: PromptOutputs | None = None
    token_class: TokenClass = field(default=TokenClass.last, kw_only=True)

    @classmethod
    def of(cls, means: Iterable[Tensor], prompts: PromptOutputs | None = None) -> "RelationMeans":
        """Build it from its means, in the order of `MEANS`."""
        clean, corrupted, residual, norm, zero_shot, zero_shot_residual = means
        return cls(clean, corrupted, residual, norm, zero_shot, zero_shot_residual, prompts)

    def at(self, site: Site) -> Tensor:
        """The mean of the clean prompts at one site: a head's output, (head_dim,), or the residual stream, (d_model,).

        Raises:
            ConfigError: these means were read at tokens of another class, or the model has no such layer or head.
        """
        values = self.residual if site.head is None else self.clean
        place = (site.layer,) if site.head is None else (site.layer, site.head)
        if site.token_class is not self.token_class:
            raise ConfigError(f"These means were read at {self.token_class.value} tokens, and {site} is elsewhere.")
        if any(at >= size for at, size in zip(place, values.shape, strict=False)):
            raise ConfigError(f"{site} is outside the model: its means are {tuple(values.shape)}.")
        return values[place]

    @property
    def difference(self) -> Tensor:
        """Mean residual stream of the clean prompts minus that of the zero-shot prompts, (n_layers, d_model)."""
        return self.residual - self.zero_shot_residual


MEANS = ("clean", "corrupted", "residual", "residual_norm", "zero_shot", "zero_shot_residual")
"""Fields of `RelationMeans` that are means, in order."""


def mean_over_prompts(values: Tensor) -> Tensor:
    """Average (n_prompts, ...) over prompts, in float64; returns float32 or wider, on the CPU."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    return values.double().mean(0).to(dtype).cpu()


def mean_of_means(means: Sequence[Tensor]) -> Tensor:
    """Unweighted mean of relations' means, all of one shape, such as (n_layers, n_heads, head_dim)."""
    return mean_over_prompts(torch.stack(list(means)))


def weighted_mean(values: Tensor, weights: np.ndarray) -> Tensor:
    """Average (n_prompts, ...) over prompts with weights, (n_prompts,), in float64; returns as `mean_over_prompts`."""
    dtype = torch.promote_types(values.dtype, torch.float32)
    shares = torch.from_numpy(weights / weights.sum()).double()
    # (n_prompts,) x (n_prompts, ...) -> (...)
    return torch.tensordot(shares, values.double(), dims=1).to(dtype).cpu()


def mean_of_relations(means: Sequence[RelationMeans]) -> RelationMeans:
    """Unweighted mean over relations."""
    return RelationMeans.of(mean_of_means([getattr(each, name) for each in means]) for name in MEANS)
