"""File of effects, read back: `Effects.save` writes it."""

from os import PathLike
from pathlib import Path

import pandas as pd
import torch
from pydantic import TypeAdapter
from torch import Tensor

from fv.config import StatsConfig
from fv.data.origin import Origin
from fv.errors import ArtifactError
from fv.files import JsonObject, read_safetensors, reading
from fv.heads.activations import MEANS, PromptOutputs, RelationMeans
from fv.heads.effects import FORM, MEASURED, OUTPUTS, QUERY, SCREENED, Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.screen import Screen

KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32)
"""Number formats that effects, means and numbers of queries may have."""


def load_effects(path: str | PathLike[str]) -> Effects:
    """Read effects from a file that `Effects.save` wrote.

    Raises:
        ArtifactError: the file is missing, truncated, or does not hold effects.

    Example:
        >>> effects.save(folder / "effects.safetensors")
        >>> fv.load_effects(folder / "effects.safetensors")["antonym"].top(3) == effects["antonym"].top(3)
        True
    """
    file = Path(path)
    tensors, about = read_safetensors(file, FORM)
    with reading(file):
        _refuse_odd(tensors, file)
        return _effects(tensors, about)


def _refuse_odd(tensors: dict[str, Tensor], file: Path) -> None:
    """Refuse tensors that cannot be effects or means.

    Raises:
        ArtifactError: a tensor has a number format not in `KINDS`, or infinite values.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in KINDS or tensor.isinf().any():
            told = "infinite values" if tensor.dtype in KINDS else f"numbers of the format {tensor.dtype}"
            raise ArtifactError(f"{file} holds {told} as {name}, where effects and means are due.")


def _effects(tensors: dict[str, Tensor], about: JsonObject) -> Effects:
    effects, means = {}, {}
    for number, q_id in enumerate(about["relations"]):
        _refuse_shapes(tensors, number, q_id)
        logprob, p = (tensors[f"{number}.{name}"].numpy() for name in MEASURED)
        effects[q_id] = TrialEffects.read(logprob, p, tensors[f"{number}.{QUERY}"].numpy())
        outputs = [tensors[key] for name in OUTPUTS if (key := f"{number}.prompts.{name}") in tensors]
        of_prompts = PromptOutputs(*outputs) if outputs else None
        means[q_id] = RelationMeans.of((tensors[f"{number}.{name}"] for name in MEANS), of_prompts)
    stats = TypeAdapter(StatsConfig).validate_python(about["stats"])
    origin, prompts = Origin.parse(about["origin"]), pd.DataFrame(about["prompts"])
    screen = _screen(tensors, about) if about["screen"] else None
    return Effects(effects, means, origin, prompts, about["seed"], stats, screen, about["clusters"])


def _refuse_shapes(tensors: dict[str, Tensor], number: int, q_id: str) -> None:
    """Refuse a relation whose effects and means belong to models of different shapes.

    Raises:
        ValueError: the shapes do not match.
    """
    clean = tuple(tensors[f"{number}.clean"].shape)
    corrupted, residual = (tuple(tensors[f"{number}.{name}"].shape) for name in ("corrupted", "residual"))
    effects = {tuple(tensors[f"{number}.{name}"].shape) for name in MEASURED}
    (shape,) = effects if len(effects) == 1 else [()]
    if len(clean) != 3 or corrupted != clean or len(residual) != 2 or residual[0] != clean[0] or shape[1:] != clean[:2]:
        raise ValueError(f"effects {sorted(effects)} and means {clean}, {corrupted}, {residual} of {q_id}")


def _screen(tensors: dict[str, Tensor], about: JsonObject) -> Screen:
    scores = {q_id: tensors[f"{number}.{SCREENED}"].numpy() for number, q_id in enumerate(about["relations"])}
    return Screen.of(about["screen"], scores)
