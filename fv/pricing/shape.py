"""Shape of a model, as far as prices depend on it: its widths, and the number of matrix entries that a token meets."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fv.config import Quant
from fv.models.language_model import LanguageModel
from fv.models.spec import FastEngine

NF4_BYTES = 0.5
"""Bytes of a 4-bit entry of a block's matrix; the scales, one per 64 entries, are left out."""


@dataclass(frozen=True)
class Shape:
    """Shape of a model, as far as a price depends on it.

    Attributes:
        name: name of the model.
        n_layers: number of decoder blocks.
        n_heads: number of attention heads per block.
        n_kv_heads: number of heads with their own keys and values.
        head_dim: width of a head.
        d_model: width of the residual stream.
        vocabulary: number of tokens that can be predicted.
        block_weights: number of entries of a block's matrices that one token is multiplied with, mean over blocks; for
            a mixture of experts, entries of the experts that a token is routed to.
        mlp_width: largest number of values that a token's MLP holds in memory.
        n_parameters: number of parameters of the whole model.
        weight_bytes: memory of all parameters, in bytes.
        itemsize: bytes of a number, in weights and activations.
        shares_prefixes: whether the rows of its family can share a prefix (`fv.models.spec.FastEngine`).
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
        """Shape of a model, loaded or not (`fv.models.shape.load_shape`), if it is loaded with quantisation `quant`."""
        config, attention = lm.config, lm.spec.out_proj.partition(".")[0]
        each = [(name, p) for block in lm.blocks for name, p in block.named_parameters()]
        met = sum(_met(config, p) for _, p in each)
        wide = sum(_at_once(config, p) for name, p in each if name.partition(".")[0] != attention)
        every = list(lm.model.parameters())  # tied parameters count once
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
        """Number of entries of the matrices for one layer's keys and values."""
        return 2 * self.d_model * self.n_kv_heads * self.head_dim

    @property
    def readout_weights(self) -> int:
        """Number of entries of the unembedding."""
        return self.d_model * self.vocabulary

    @property
    def attention_width(self) -> int:
        """Total width of all heads of a layer."""
        return self.n_heads * self.head_dim


def _met(config: Any, parameter: Tensor) -> float:
    """Number of entries of a block's parameter that one token is multiplied with."""
    return 0 if parameter.ndim < 2 else parameter.numel() * _share_of_experts(config, parameter.shape)


def _at_once(config: Any, parameter: Tensor) -> float:
    """Number of values that a token holds in memory at an MLP's matrix: its wider side, for each active expert."""
    if parameter.ndim < 2:
        return 0
    sides: Iterable[int] = parameter.shape[-2:]
    experts = parameter.shape[0] if parameter.ndim == 3 else 1
    return max(sides) * experts * _share_of_experts(config, parameter.shape)


def _share_of_experts(config: Any, shape: torch.Size) -> float:
    """Share of a stack of experts' matrices, (n_experts, …), that a token is routed to; 1 for a single matrix."""
    return int(config.num_experts_per_tok) / shape[0] if len(shape) == 3 else 1.0
