"""Vectors in files: a bare tensor as `torch.save` writes it, or safetensors with what the vector is made of."""

from dataclasses import replace
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from fv.data.origin import Origin
from fv.errors import ArtifactError
from fv.files import read_safetensors, read_torch
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.vector import FORM, Vector


def read_vector(path: Path, lm: LanguageModel) -> Vector:
    """Read one (d_model,) vector of either form, for a model.

    Raises:
        ArtifactError: the file is missing or truncated, or holds no such vector.
    """
    loaded = load_vector(path) if path.suffix == ".safetensors" else None
    values = read_torch(path) if loaded is None else loaded.values
    if not isinstance(values, Tensor) or values.shape != (lm.d_model,):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ArtifactError(f"{path} holds {shape}, where a ({lm.d_model},) vector of {lm.name} is due.")
    if not values.isfinite().all():
        raise ArtifactError(f"{path} holds NaN or infinite values.")
    return Vector.of(values) if loaded is None else loaded


def load_vector(path: str | PathLike[str]) -> Vector:
    """Read a vector that `Vector.save` wrote.

    Raises:
        ArtifactError: the file is missing or truncated, or holds no such vector.

    Example:
        >>> vector.save(folder / "antonym.safetensors")
        >>> torch.equal(fv.load_vector(folder / "antonym.safetensors").values, vector.values)
        True
    """
    file = Path(path)
    tensors, about = read_safetensors(file, FORM)
    values = tensors.get("vector")
    try:
        heads = tuple(Head(int(layer), int(head)) for layer, head in about["heads"])
        origin = None if about["origin"] is None else Origin.parse(about["origin"])
        vector = Vector(
            about["source"], about["kind"], about["source_qid"], torch.empty(0), about["k"], heads=heads, origin=origin
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{file} does not say what its vector is made of ({type(error).__name__}).") from None
    if not isinstance(values, Tensor) or values.ndim != 1 or not values.isfinite().all():
        raise ArtifactError(f"{file} holds no vector of finite numbers.")
    return replace(vector, values=values)
