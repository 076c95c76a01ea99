"""Effects read back from the file that `Effects.save` writes."""

from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter
from torch import Tensor

from fv.config import StatsConfig
from fv.data.origin import Origin
from fv.errors import ArtifactError
from fv.files import read_safetensors
from fv.heads.activations import PromptOutputs, RelationMeans
from fv.heads.effects import FORM, MEANS, MEASURED, OUTPUTS, QUERY, SCREENED, Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.screen import Screen


def load_effects(path: str | PathLike[str]) -> Effects:
    """Read what `Effects.save` wrote.

    Raises:
        ArtifactError: the file is missing, truncated, or holds no effects.

    Example:
        >>> effects.save(folder / "effects.safetensors")
        >>> fv.load_effects(folder / "effects.safetensors")["antonym"].top(3) == effects["antonym"].top(3)
        True
    """
    file = Path(path)
    tensors, about = read_safetensors(file, FORM)
    try:
        return _effects(tensors, about)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{file} lacks a part of the effects it is to hold ({error!r}).") from None


def _effects(tensors: dict[str, Tensor], about: dict[str, Any]) -> Effects:
    effects, means = {}, {}
    for number, q_id in enumerate(about["relations"]):
        logprob, p = (tensors[f"{number}.{name}"].numpy() for name in MEASURED)
        queries = tensors.get(f"{number}.{QUERY}")
        effects[q_id] = TrialEffects.read(logprob, p, None if queries is None else queries.numpy())
        clean, corrupted, residual = (tensors[f"{number}.{name}"] for name in MEANS[:3])
        others = {name: tensors.get(f"{number}.{name}") for name in MEANS[3:]}
        outputs = [tensors[key] for name in OUTPUTS if (key := f"{number}.prompts.{name}") in tensors]
        of_prompts = PromptOutputs(*outputs) if outputs else None
        means[q_id] = RelationMeans(clean, corrupted, residual, **others, prompts=of_prompts)
    stats = TypeAdapter(StatsConfig).validate_python(about["stats"])
    origin, prompts = Origin.parse(about["origin"]), pd.DataFrame(about["prompts"])
    screen = _screen(tensors, about) if about.get("screen") else None
    return Effects(effects, means, origin, prompts, about["seed"], stats, screen, about.get("clusters", {}))


def _screen(tensors: dict[str, Tensor], about: dict[str, Any]) -> Screen:
    scores = {q_id: tensors[f"{number}.{SCREENED}"].numpy() for number, q_id in enumerate(about["relations"])}
    return Screen.of(about["screen"], scores)
