"""What a price depends on of a model: how many matrix entries a token meets, and how wide it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fv.config import Quant
from fv.models.language_model import LanguageModel
from fv.models.spec import FastEngine

NF4_BYTES = 0.5
"""Of an entry of a block's matrix in 4 bits; its scales, one a block of 64 entries, are left out."""


@dataclass(frozen=True)
class Shape:
    """A model's shape, as far as a price depends on it.

    Attributes:
        name: of the model.
        n_layers: decoder blocks.
        n_heads: attention heads a block.
        n_kv_heads: heads that have keys and values of their own.
        head_dim: width of a head.
        d_model: width of the residual stream.
        vocabulary: tokens that can be predicted.
        block_weights: entries of the matrices of a block that one token is multiplied with, the mean over blocks; of a
            mixture of experts, those of the experts that a token goes to.
        mlp_width: numbers that a token's MLP has in memory at once.
        n_parameters: parameters of the whole model.
        weight_bytes: memory of all of them.
        itemsize: bytes of a number, in weights and activations.
        shares_prefixes: whether its family's rows share a prefix (`fv.models.spec.FastEngine`).
    """

    name: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    d_model: int
    vocabulary: int
    block_weights: int
    mlp_width: int
    n_parameters: int
    weight_bytes: int
    itemsize: int
    shares_prefixes: bool

    @classmethod
    def of(cls, lm: LanguageModel, quant: Quant = Quant.none) -> "Shape":
        """The shape of a model, loaded or not (`fv.models.shape.load_shape`); `quant` is how it would be loaded."""
        config, attention = lm.config, lm.spec.out_proj.partition(".")[0]
        each = [(name, p) for block in lm.blocks for name, p in block.named_parameters()]
        met = sum(_met(config, p) for _, p in each)
        wide = sum(_at_once(config, p) for name, p in each if name.partition(".")[0] != attention)
        every = list(lm.model.parameters())  # tied ones once
        matrices = sum(p.numel() for _, p in each if p.ndim >= 2) if quant is Quant.nf4 else 0
        size = sum(p.numel() * p.element_size() for p in every)
        return cls(
            name=lm.name,
            n_layers=lm.n_layers,
            n_heads=lm.n_heads,
            n_kv_heads=int(getattr(config, "num_key_value_heads", None) or lm.n_heads),
            head_dim=lm.head_dim,
            d_model=lm.d_model,
            vocabulary=lm.vocabulary,
            block_weights=round(met / lm.n_layers),
            mlp_width=round(wide / lm.n_layers),
            n_parameters=sum(p.numel() for p in every),
            weight_bytes=size - round(matrices * (lm.dtype.itemsize - NF4_BYTES)),
            itemsize=lm.dtype.itemsize,
            shares_prefixes=lm.spec.sweep is FastEngine.shared_prefix,
        )

    @property
    def key_value_weights(self) -> int:
        """Entries of the matrices that make one layer's keys and values."""
        return 2 * self.d_model * self.n_kv_heads * self.head_dim

    @property
    def readout_weights(self) -> int:
        """Entries of the unembedding."""
        return self.d_model * self.vocabulary

    @property
    def attention_width(self) -> int:
        """Width of all heads of a layer."""
        return self.n_heads * self.head_dim


def _met(config: Any, parameter: Tensor) -> float:
    """Entries of a block's parameter that one token is multiplied with."""
    return 0 if parameter.ndim < 2 else parameter.numel() * _share_of_experts(config, parameter.shape)


def _at_once(config: Any, parameter: Tensor) -> float:
    """Numbers that a matrix of an MLP has beside it for a token: its wider side, for each expert that is asked."""
    if parameter.ndim < 2:
        return 0
    sides: Iterable[int] = parameter.shape[-2:]
    experts = parameter.shape[0] if parameter.ndim == 3 else 1
    return max(sides) * experts * _share_of_experts(config, parameter.shape)


def _share_of_experts(config: Any, shape: torch.Size) -> float:
    """The share of a stack of experts' matrices, (n_experts, …), that a token goes to; 1 of a single matrix."""
    return int(config.num_experts_per_tok) / shape[0] if len(shape) == 3 else 1.0
