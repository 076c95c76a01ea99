"""Files of vectors: a bare tensor written by `torch.save`, or safetensors with metadata on the vector's heads."""

import json
from os import PathLike
from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from fv.data.origin import Origin
from fv.errors import ArtifactError, shorten
from fv.files import JsonObject, read_safetensors, read_torch, reading
from fv.interventions.engine import Cell, Head
from fv.models.language_model import LanguageModel
from fv.vectors.values import flaw_of
from fv.vectors.vector import FORM, Vector


class _MadeOf(BaseModel):
    """Metadata of a vector's file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    form: str
    source: str
    kind: str
    source_qid: str | None
    k: PositiveInt | None
    heads: list[tuple[NonNegativeInt, NonNegativeInt]]
    origin: JsonObject | None
    cell: tuple[NonNegativeInt, float] | None = None


def read_vector(path: Path, lm: LanguageModel, layered: bool = False) -> Vector:
    """Read a vector for a model, (d_model,), from either kind of file; with `layered` also (n_layers, d_model).

    Raises:
        ArtifactError: the file is missing or truncated, or does not hold such a vector.
    """
    loaded = load_vector(path) if path.suffix == ".safetensors" else None
    values = read_torch(path) if loaded is None else loaded.values
    if flaw := flaw_of(values, lm.d_model, lm.n_layers, layered):
        more = f", or ({lm.n_layers}, {lm.d_model}), one vector per layer" if layered else ""
        raise ArtifactError(f"{path} holds {flaw}; {lm.name} needs a ({lm.d_model},) vector{more}.")
    return Vector.of(values) if loaded is None else loaded


def load_vector(path: str | PathLike[str]) -> Vector:
    """Read a vector that `Vector.save` wrote.

    Raises:
        ArtifactError: the file is missing or truncated, or does not hold such a vector.

    Example:
        >>> vector.save(folder / "antonym.safetensors")
        >>> torch.equal(fv.load_vector(folder / "antonym.safetensors").values, vector.values)
        True
    """
    file = Path(path)
    tensors, about = read_safetensors(file, FORM)
    try:
        made_of = _MadeOf.model_validate_json(json.dumps(about))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{file} has no valid metadata of a vector ({where}: {first['msg']}).") from None
    if others := sorted({*tensors} - {"vector"}):
        raise ArtifactError(f"{file} holds more than a vector: {shorten(others)}.")
    if flaw := flaw_of(tensors.get("vector"), layered=True):
        raise ArtifactError(f"{file} holds {flaw} instead of a vector of finite numbers.")
    with reading(file):
        origin = None if made_of.origin is None else Origin.parse(made_of.origin)
    heads = tuple(Head(*head) for head in made_of.heads)
    cell = None if made_of.cell is None else Cell(*made_of.cell)
    named = made_of.source, made_of.kind, made_of.source_qid
    return Vector(*named, tensors["vector"], made_of.k, heads=heads, origin=origin, cell=cell)
