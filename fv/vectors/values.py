"""Values of a vector: finite real numbers, one for each dimension of the residual stream, or so many per layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fv.interventions.engine import Cell

REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
"""Number formats that a vector may have; complex numbers, float8 and integers cannot be added to a residual stream."""


def flaw_of(values: Any, d_model: int | None = None, n_layers: int | None = None, layered: bool = False) -> str:
    """Describe `values` in a few words if they are not a (d_model,) tensor of finite real numbers; else "".

    Args:
        values: any object that was given or read.
        d_model: required width; None for any width above 0.
        n_layers: required number of layers of (n_layers, d_model); None for any number above 0.
        layered: True if the tensor may also be (n_layers, d_model).
    """
    if not isinstance(values, Tensor):
        return type(values).__name__
    shape = tuple(values.shape)
    is_fit = len(shape) in ((1, 2) if layered else (1,)) and all(shape) and d_model in (None, shape[-1])
    if not is_fit or (len(shape) == 2 and n_layers not in (None, shape[0])):
        return f"a tensor {shape}"
    if values.dtype not in REAL or values.layout is not torch.strided:
        return f"numbers of the format {str(values.dtype).removeprefix('torch.')}"
    return "" if values.isfinite().all() else "NaN or infinite values"


def strength(vector: Tensor, cell: Cell, residual_norm: Tensor | None) -> float:
    """Factor by which `vector` is multiplied at a cell.

    Args:
        vector: (d_model,).
        cell: layer and alpha.
        residual_norm: mean norm of the residual stream after each block, (n_layers,), if alpha is relative to it
            (`AlphaUnit.residual`); None if alpha itself is the factor.
    """
    if residual_norm is None:
        return cell.alpha
    norm = norm_of(vector)
    return cell.alpha * float(residual_norm[cell.layer]) / norm if norm else 0.0


def norm_of(vector: Tensor) -> float:
    """Euclidean norm of a vector."""
    return float(vector.double().norm())
