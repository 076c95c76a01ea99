"""Files of a relation's means (spec section 4)."""

from pathlib import Path
from typing import Any

from torch import Tensor

from fv.errors import ArtifactError
from fv.files import read_torch, write_torch
from fv.heads.activations import RelationMeans

LAST_SLOT = 0
"""The clean mean has one slot, the last prompt token."""


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


def write_other_means(path: Path, means: RelationMeans) -> None:
    """Write what a relation's clean mean is compared with: `stepD_other_means/qid_<QID>.pt`."""
    value = {"corrupted_mean": means.corrupted, "residual_mean": means.residual}
    if means.residual_norm is not None:
        value["residual_norm"] = means.residual_norm
    write_torch(path, value)


def read_relation_means(clean: Path, others: Path) -> RelationMeans:
    """Read a relation's means from its two files.

    Raises:
        ArtifactError: a file is missing, truncated or of another shape.
    """
    mean, value = read_clean_mean(clean), read_torch(others)
    if isinstance(value, dict):
        corrupted, residual, norm = (value.get(name) for name in ("corrupted_mean", "residual_mean", "residual_norm"))
        if (
            isinstance(corrupted, Tensor)
            and isinstance(residual, Tensor)
            and corrupted.shape == mean.shape
            and (residual.ndim, len(residual)) == (2, len(mean))
            and (norm is None or (isinstance(norm, Tensor) and norm.shape == mean.shape[:1]))
        ):
            return RelationMeans(mean, corrupted, residual, norm)
    raise ArtifactError(f"{others} does not hold the means of {clean.name}'s prompts.")
