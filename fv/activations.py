"""Clean means: head outputs at the last prompt token, averaged over a relation's clean prompts (spec section 1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fv.artifacts import read_torch, write_torch
from fv.errors import ArtifactError

LAST_SLOT = 0
"""The clean mean has one slot, the last prompt token."""


def mean_head_outputs(head_outputs: Tensor) -> Tensor:
    """Average (n_prompts, n_layers, n_heads, head_dim) over prompts, in float64; returns float32 or wider."""
    dtype = torch.promote_types(head_outputs.dtype, torch.float32)
    return head_outputs.double().mean(0).to(dtype)


def mean_of_means(clean_means: Sequence[Tensor]) -> Tensor:
    """Unweighted mean of relations' clean means, each (n_layers, n_heads, head_dim)."""
    return mean_head_outputs(torch.stack(list(clean_means)))


def write_clean_mean(path: Path, clean_mean: Tensor, d_model: int) -> None:
    """Write one `..._clean_mean.pt` (spec section 4)."""
    _, n_heads, head_dim = clean_mean.shape
    value: dict[str, Any] = {
        "clean_mean": clean_mean,
        "slot_q": LAST_SLOT,
        "n_heads": n_heads,
        "head_dim": head_dim,
        "resid_dim": d_model,
    }
    write_torch(path, value)


def read_clean_mean(path: Path) -> Tensor:
    """Read one clean mean, (n_layers, n_heads, head_dim).

    Raises:
        ArtifactError: the file is missing, truncated, or of another shape than it says.
    """
    value = read_torch(path)
    mean = value.get("clean_mean") if isinstance(value, dict) else None
    if (
        not isinstance(mean, Tensor)
        or mean.ndim != 3
        or mean.shape[1:] != (value.get("n_heads"), value.get("head_dim"))
    ):
        raise ArtifactError(f"{path} does not hold a (n_layers, n_heads, head_dim) clean mean.")
    return mean
