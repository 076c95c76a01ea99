"""Loading a model and proving that edits act on it."""

import difflib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fv.config import ComputeConfig, ModelConfig, Quant, model_preset, model_presets
from fv.config.checks import safe_name
from fv.errors import ConfigError, ModelError
from fv.interventions.editable import EditableModel, editable
from fv.interventions.proofs import proof_of
from fv.interventions.selfcheck import SKIPPED
from fv.models.gguf import SCHEME
from fv.models.loading import dtype_of, load_unproved
from fv.models.quiet import quiet_transformers

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_model(  # noqa: PLR0913 - every one is optional, and by its name only
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "fp32",
    name: str | None = None,
    revision: str | None = None,
    spec: str | None = None,
    spec_file: str | None = None,
    quant: str | None = None,
    device_map: Any = None,
    max_memory: dict[int | str, int | str] | None = None,
    offload_folder: str | None = None,
    allow_pickle: bool | None = None,
    selfcheck: bool = True,
) -> EditableModel:
    """Load, place and prove a model.

    Example:
        >>> fv.load_model("smollm2", selfcheck=False).n_layers
        30

    Args:
        source: the name of a ready model (`fv.config.model_presets()`); else a folder in Hugging Face format or a GGUF
            file; else a hub id, `owner/name`.
        device: where all of it goes, such as `cuda`.
        dtype: the number format of weights and activations: fp32, fp64, bf16 or fp16, or as torch calls them.
        name: a short name for tables and files; that of the source unless given.
        revision: a revision on the hub, for a model from there.
        spec: the name of the family to take it for; found by its `config.model_type` unless given.
        spec_file: a YAML file that describes a family of one's own (docs/models.md), instead of `spec`.
        quant: `nf4` keeps the weights in 4 bits; `none` unless given.
        device_map: where which module goes, for a model larger than one device (docs/models.md); instead of `device`.
        max_memory: what a `device_map` of `auto`, `balanced` or `sequential` may use of each device.
        offload_folder: where weights are written that a `device_map` puts on disk.
        allow_pickle: whether pickled weights, which can run any code, are loaded where there are no safetensors.
        selfcheck: whether it is proved that edits act where the spec has them; takes seconds.

    Raises:
        ConfigError: an argument is none of what is allowed; names it and what is.
        ModelError: the model cannot be found, is of an unknown family, or fails its self-check.
    """
    if device_map is not None and str(device) != "cpu":
        raise ConfigError(f"device_map places the model, and so does device={device}: leave one of them out.")
    compute = ComputeConfig(device=_checked_device(device), dtype=dtype_of(dtype), strict=False, selfcheck=selfcheck)
    model = settings_of(source)
    if revision is not None and model.path is not None:
        raise ConfigError(f"revision={revision!r} is for a model of the hub; {str(source)!r} is on this machine.")
    given: dict[str, Any] = {
        "name": name,
        "revision": revision,
        "spec": spec,
        "spec_file": spec_file,
        "quant": None if quant is None else _quant_of(quant),
        "device_map": device_map,
        "max_memory": max_memory,
        "offload_folder": offload_folder,
        "allow_pickle": allow_pickle,
    }
    return load_configured(replace(model, **{key: value for key, value in given.items() if value is not None}), compute)


def load_configured(model: ModelConfig, compute: ComputeConfig) -> EditableModel:
    """Load, place and check a model as settings say. Nothing keeps it but the caller.

    Raises:
        ModelError: it cannot be found, is of an unknown family, or fails its self-check.
    """
    with quiet_transformers():
        lm = load_unproved(model, compute)
    return editable(lm, proof_of(lm) if compute.selfcheck else SKIPPED)


def settings_of(source: str | Path) -> ModelConfig:
    """Which model `source` means, as of `load_model`.

    Raises:
        ModelError: it is nothing that names a model.
    """
    text = str(source)
    if isinstance(source, str) and source in model_presets():
        return model_preset(source)
    path = Path(text).expanduser()
    if path.is_dir():
        return ModelConfig(name=safe_name(path.resolve().name, ModelConfig.name), path=str(path))
    if path.is_file() and path.suffix == ".gguf":
        return ModelConfig(name=safe_name(path.stem, ModelConfig.name), path=str(path))
    if isinstance(source, str) and (source.startswith(SCHEME) or HUB_ID.fullmatch(source)):
        return ModelConfig(name=safe_name(Path(source).name, ModelConfig.name), id=source)
    near = difflib.get_close_matches(text, model_presets())
    raise ModelError(
        f"source={text!r} is no ready model, no folder or .gguf file that there is, and no hub id (owner/name). "
        + (f"Near it: {', '.join(near)}." if near else f"Ready models are {', '.join(model_presets())}.")
    )


def _quant_of(quant: str) -> Quant:
    if quant not in [*Quant]:
        raise ConfigError(f"quant={quant!r} must be one of {', '.join(Quant)}.")
    return Quant(quant)


def _checked_device(device: str | torch.device) -> str:
    """The device, if there is one to hold a tensor; known before a model is read."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without that device asserts
        raise ModelError(f"device={str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error
    return str(device)
