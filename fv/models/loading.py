"""Loading a model from a folder, a GGUF file or the hub."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from fv.config import ComputeConfig, Dtype, ModelConfig, Quant
from fv.errors import ConfigError, ModelError
from fv.files import digest_of, sha256_of
from fv.models.files import check_files, first_line, gguf_of, hub_folder
from fv.models.gguf import converted_folder
from fv.models.language_model import LanguageModel
from fv.models.placement import check_blocks, placement_of
from fv.models.quantisation import check_quantised, quantising
from fv.models.spec import find_spec
from fv.models.token_ids import tokenizer_digest

log = logging.getLogger(__name__)
DTYPES = {
    Dtype.fp32: torch.float32,
    Dtype.fp64: torch.float64,
    Dtype.bf16: torch.bfloat16,
    Dtype.fp16: torch.float16,
}


def dtype_of(dtype: str | torch.dtype) -> Dtype:
    """The number format of a name, ours or torch's, or of a torch dtype.

    Raises:
        ConfigError: there is no such number format.
    """
    for own, torchs in DTYPES.items():
        if dtype in (own.value, torchs, str(torchs).removeprefix("torch.")):
            return own
    known = ", ".join(f"{own.value} ({str(torchs).removeprefix('torch.')})" for own, torchs in DTYPES.items())
    raise ConfigError(f"dtype={dtype!r} must be one of {known}.")


def load_unproved(model_config: ModelConfig, compute: ComputeConfig) -> LanguageModel:
    """Load and place a model, without proving that edits act on it (`fv.interventions.loading` does).

    Raises:
        ModelError: the model cannot be found, lacks weights or a tokenizer, is of an unknown family, or is quantised in
            a way for which engines are not exact.
    """
    device, dtype = compute.device, compute.dtype
    folder, fingerprint = locate(model_config)
    with _explained(folder, model_config.called("offload_folder")):
        hf_config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        spec = find_spec(hf_config.model_type, model_config.spec, model_config.spec_file, model_config.called)
        check_files(model_config, folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=DTYPES[dtype],
            # The implementation that every family has; the self-check compares the others with it.
            attn_implementation="eager",
            use_safetensors=None if model_config.allow_pickle else True,
            **quantising(model_config, DTYPES[dtype], device),
            **placement_of(model_config, hf_config, spec),
            trust_remote_code=False,
            output_loading_info=True,
        )
    check_quantised(model, str(folder))
    if info["missing_keys"]:
        raise ModelError(f"{folder} lacks weights: {', '.join(sorted(info['missing_keys'])[:5])}.")
    if DTYPES[dtype] is torch.float64:
        model.set_experts_implementation("eager")  # the default grouped products of experts do not support float64
    # Quantised and mapped weights are on their devices already, and cannot be moved.
    placed = model_config.quant is not Quant.none or model_config.device_map is not None
    if devices := getattr(model, "hf_device_map", None):
        check_blocks(devices, spec, model_config.called("device_map"))
        log.info("Modules are on: %s", ", ".join(f"{path or 'all'} {device}" for path, device in devices.items()))
    try:
        model = (model if placed else model.to(device)).eval().requires_grad_(False)
    except (RuntimeError, AssertionError) as error:  # torch built without that device asserts
        raise ModelError(f"{compute.called('device')}={device} cannot be used: {str(error).splitlines()[0]}") from error
    fingerprint["tokenizer_sha256"] = tokenizer_digest(tokenizer)
    if model_config.spec_file:
        fingerprint["spec_sha256"] = digest_of(asdict(spec))
    return LanguageModel(model, tokenizer, spec, model_config.name, fingerprint)


def locate(config: ModelConfig) -> tuple[Path, dict[str, str]]:
    """Find the model's folder, and hash its weights: the folder, and the part of the fingerprint for weights.

    Raises:
        ModelError: there is no such model.
    """
    if gguf := gguf_of(config):
        folder, weights = converted_folder(gguf, config.sha256, config.called("sha256"))
        return folder, {"source": "gguf" if config.path else str(config.id), "weights_sha256": weights}
    folder = _folder_of(config)
    source = {"source": "local"} if config.path else {"source": str(config.id), "revision": folder.name}
    return folder, {**source, "weights_sha256": _digest_weights(folder)}


def files_as_they_are(config: ModelConfig) -> dict[str, list[int]]:
    """The model's files with size and time of change, {path: [bytes, nanoseconds]}; downloads them if needed.

    Raises:
        ModelError: there is no such model.
    """
    gguf = gguf_of(config)
    files = [gguf] if gguf else sorted(path for path in _folder_of(config).iterdir() if path.is_file())
    return {str(path.absolute()): [path.stat().st_size, path.stat().st_mtime_ns] for path in files}


def _folder_of(config: ModelConfig) -> Path:
    """The folder that the settings' path names, or the hub's snapshot."""
    if config.path is not None:
        folder = Path(config.path)
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{config.called('path')}={config.path} is not a model folder: there is no "
                f"{folder.absolute() / 'config.json'}. Save one with save_pretrained, name a .gguf file, or use "
                f"{config.ways.embedded}, or {config.ways.hub}."
            )
        return folder
    # Pickled weights are fetched only if they are allowed.
    patterns = ["*.safetensors", *(["*.bin"] if config.allow_pickle else [])]

    def lack_of(folder: Path) -> str | None:
        if (folder / "config.json").exists() and any(any(folder.glob(pattern)) for pattern in patterns):
            return None
        pickles = f"{config.called('allow_pickle')}=true allows *.bin"
        return f"its snapshot has no config.json and {' or '.join(patterns)} files ({pickles})."

    return hub_folder(config, "Model", patterns, lack_of)


def _digest_weights(folder: Path) -> str:
    weights = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    files = [*weights, folder / "config.json"]
    return digest_of({path.name: sha256_of(path) for path in files})


@contextmanager
def _explained(folder: Path, offload: str) -> Iterator[None]:
    """Turn any error of a loader into a `ModelError` on `folder`; `offload` names the setting of the offload folder."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if "offload_folder" in str(error):
            raise ModelError(
                f"{folder} holds weights that cannot be read one by one as the model has them (pickles, experts), so "
                f"modules on disk need a folder to write them to: {offload}=<folder>."
            ) from error
        raise ModelError(f"{folder} could not be loaded as a causal language model: {first_line(error)}") from error
