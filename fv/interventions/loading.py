"""Loading a model, with the proof that edits act on it."""

import difflib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fv.config import ComputeConfig, ModelConfig, Quant, model_preset, model_presets
from fv.config.checks import safe_name
from fv.errors import ConfigError, ModelError, one_of
from fv.interventions.editable import EditableModel, editable
from fv.interventions.proofs import proof_of
from fv.interventions.selfcheck import SKIPPED
from fv.models.gguf import SCHEME
from fv.models.loading import dtype_of, load_unproved
from fv.models.quiet import quiet_transformers

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


def load_model(  # noqa: PLR0913 - all are optional, and passed by name only
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
        device: the device of the whole model, such as `cuda`.
        dtype: the number format of weights and activations: fp32, fp64, bf16 or fp16, or torch's names of these.
        name: a short name for tables and files; the source's name unless given.
        revision: a revision on the hub, for a model from there.
        spec: the name of the model's family; found by its `config.model_type` unless given.
        spec_file: a YAML file that describes a family of your own (docs/models.md), instead of `spec`.
        quant: `nf4` keeps the weights in 4 bits; `none` unless given.
        device_map: the device of each module, for a model larger than one device (docs/models.md); instead of `device`.
        max_memory: the memory of each device that a `device_map` of `auto`, `balanced` or `sequential` may use.
        offload_folder: a folder for the weights that a `device_map` puts on disk.
        allow_pickle: whether pickled weights, which can run any code, are loaded if there are no safetensors.
        selfcheck: whether to prove that edits act at the modules that the spec names; takes seconds.

    Raises:
        ConfigError: an argument has a value that is not allowed; names the argument and the allowed values.
        ModelError: the model cannot be found, is of an unknown family, or fails its self-check.
    """
    if device_map is not None and str(device) != "cpu":
        raise ConfigError(f"device_map places the model, and so does device={device}: leave one of them out.")
    compute = ComputeConfig(device=_checked_device(device), dtype=dtype_of(dtype), strict=False, selfcheck=selfcheck)
    model = settings_of(source)
    if revision is not None and model.path is not None:
        raise ConfigError(f"revision={revision!r} is for a model of the hub; {str(source)!r} is on this machine.")
    given = {
        "name": name,
        "revision": revision,
        "spec": spec,
        "spec_file": spec_file,
        "quant": None if quant is None else one_of("quant", quant, Quant),
        "device_map": device_map,
        "max_memory": max_memory,
        "offload_folder": offload_folder,
        "allow_pickle": allow_pickle,
    }
    return load_configured(replace(model, **{key: value for key, value in given.items() if value is not None}), compute)


def load_configured(model: ModelConfig, compute: ComputeConfig) -> EditableModel:
    """Load, place and prove a model by its settings. Only the caller keeps it.

    Raises:
        ModelError: the model cannot be found, is of an unknown family, or fails its self-check.
    """
    with quiet_transformers():
        lm = load_unproved(model, compute)
    return editable(lm, proof_of(lm) if compute.selfcheck else SKIPPED)


def settings_of(source: str | Path) -> ModelConfig:
    """The settings of the model that a `source` of `load_model` names.

    Raises:
        ModelError: `source` names no model.
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


def _checked_device(device: str | torch.device) -> str:
    """The device as text, checked to exist before a model is read.

    Raises:
        ModelError: the device cannot hold a tensor.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without that device asserts
        raise ModelError(f"device={str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error
    return str(device)
