"""Vectors in files."""

from pathlib import Path

from torch import Tensor

from fv.errors import ArtifactError
from fv.files import read_torch
from fv.models.language_model import LanguageModel


def read_vector(path: Path, lm: LanguageModel) -> Tensor:
    """Read one (d_model,) vector.

    Raises:
        ArtifactError: the file is missing or truncated, or holds no such vector.
    """
    vector = read_torch(path)
    if not isinstance(vector, Tensor) or vector.shape != (lm.d_model,):
        shape = tuple(vector.shape) if isinstance(vector, Tensor) else type(vector).__name__
        raise ArtifactError(f"{path} holds {shape}, where a ({lm.d_model},) vector of {lm.name} is due.")
    if not vector.isfinite().all():
        raise ArtifactError(f"{path} holds NaN or infinite values.")
    return vector
