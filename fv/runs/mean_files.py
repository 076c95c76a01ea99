"""Files of a relation's means (spec section 4)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fv.errors import ArtifactError
from fv.files import read_torch, write_torch
from fv.heads.activations import PromptOutputs, RelationMeans

OTHERS = {
    "corrupted": "corrupted_mean",
    "residual": "residual_mean",
    "residual_norm": "residual_norm",
    "zero_shot": "zero_shot_mean",
    "zero_shot_residual": "zero_shot_residual_mean",
}
"""{field of `RelationMeans`: its key in `stepD_other_means/`}."""
LAST_SLOT = 0
"""Slot of the clean mean: it has one, the last prompt token."""


def write_clean_mean(path: Path, clean_mean: Tensor, d_model: int) -> None:
    """Write one `..._clean_mean.pt` (spec section 4)."""
    _, n_heads, head_dim = clean_mean.shape
    shape = {"n_heads": n_heads, "head_dim": head_dim, "resid_dim": d_model}
    write_torch(path, {"clean_mean": clean_mean, "slot_q": LAST_SLOT, **shape})


def read_clean_mean(path: Path) -> Tensor:
    """Read one clean mean, (n_layers, n_heads, head_dim).

    Raises:
        ArtifactError: the file is missing, truncated, or has another shape than it states.
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
    """Write a relation's means other than the clean mean: `stepD_other_means/qid_<QID>.pt`."""
    write_torch(path, {key: getattr(means, name) for name, key in OTHERS.items()})


def write_prompt_outputs(path: Path, prompts: PromptOutputs) -> None:
    """Write `stepD_prompt_outputs/qid_<QID>.pt`."""
    write_torch(path, {"clean": prompts.clean, "corrupted": prompts.corrupted})


def read_relation_means(clean: Path, others: Path, prompts: Path) -> RelationMeans:
    """Read a relation's means from its files.

    Raises:
        ArtifactError: a file is missing, truncated or has another shape.
    """
    mean, value = read_clean_mean(clean), read_torch(others)
    found: Mapping[str, Any] = {name: value.get(key) for name, key in OTHERS.items()} if isinstance(value, dict) else {}
    heads, layers = tuple(mean.shape), tuple(mean.shape[:1])
    # The width of the stream is known from `residual`.
    stream = (*layers, *getattr(found.get("residual"), "shape", ())[1:2])
    due = {"corrupted": heads, "residual": stream, "residual_norm": layers, "zero_shot": heads}
    due["zero_shot_residual"] = stream
    for name, shape in due.items():
        tensor = found.get(name)
        if len(stream) != 2 or not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            raise ArtifactError(f"{others} does not hold the means of {clean.name}'s prompts.")
    return RelationMeans(mean, **found, prompts=_read_prompt_outputs(prompts, heads))


def _read_prompt_outputs(path: Path, heads: tuple[int, ...]) -> PromptOutputs:
    value = read_torch(path)
    clean, corrupted = (value.get(name) if isinstance(value, dict) else None for name in ("clean", "corrupted"))
    if not (isinstance(clean, Tensor) and isinstance(corrupted, Tensor) and clean.shape == corrupted.shape):
        raise ArtifactError(f"{path} does not hold the head outputs of clean and corrupted prompts.")
    if tuple(clean.shape[1:]) != heads:
        raise ArtifactError(f"{path} holds head outputs {tuple(clean.shape[1:])}, where {heads} are due.")
    return PromptOutputs(clean, corrupted)
