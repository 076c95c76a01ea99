"""A model's tokenizer without its weights, to look at data with."""

import contextlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import transformers
from huggingface_hub import snapshot_download
from transformers import AutoConfig, AutoTokenizer

from fv.artifacts import read_json, sha256_of
from fv.config import ModelConfig
from fv.errors import ArtifactError, ModelError
from fv.models.embedded import SCHEME, cache_root, find_packaged
from fv.models.language_model import LanguageModel
from fv.models.loading import HUB_FILES, tokenizer_digest
from fv.models.spec import find_spec

DEFINITIONS = ("tokenizer.json", "vocab.json", "tokenizer.model")
"""A folder with none of these has no tokenizer."""


def load_tokenizer(model: ModelConfig) -> LanguageModel:
    """The `LanguageModel` of `model` with a configuration and a tokenizer, and no weights: it encodes, no more.

    Raises:
        ModelError: there is no such model, or it has no tokenizer or is of an unknown family.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    source = _source(model)
    try:
        # The reader of GGUF files draws bars of its own, terminal or not.
        with contextlib.redirect_stderr(io.StringIO()):
            config = AutoConfig.from_pretrained(**source, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
    except Exception as error:  # whatever a loader raises about a folder
        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ModelError(f"{source['pretrained_model_name_or_path']} has no usable tokenizer: {first_line}") from error
    spec = find_spec(config.model_type, model.spec, model.spec_file)
    fingerprint = {"tokenizer_sha256": tokenizer_digest(tokenizer)}
    return LanguageModel(SimpleNamespace(config=config), tokenizer, spec, model.name, fingerprint)


def _source(model: ModelConfig) -> dict[str, Any]:
    """Where the tokenizer is, as the arguments of `from_pretrained`."""
    if model.path is not None and Path(model.path).suffix != ".gguf":
        if not _has_tokenizer(Path(model.path)):
            raise ModelError(
                f"model.path={model.path} has no tokenizer: config.json and one of {', '.join(DEFINITIONS)} are needed."
            )
        return {"pretrained_model_name_or_path": model.path}
    if model.path is None and not str(model.id).startswith(SCHEME):
        return {"pretrained_model_name_or_path": str(_from_hub(str(model.id), model.revision))}
    gguf = find_packaged(str(model.id)) if model.path is None else Path(model.path)
    if not gguf.is_file():
        raise ModelError(f"model.path={gguf} does not exist.")
    found = sha256_of(gguf)
    if model.sha256 and found != model.sha256:
        raise ModelError(f"{gguf} has SHA-256 {found}, where {model.sha256} is expected (model.sha256).")
    # Reading a tokenizer out of a GGUF file takes ten seconds; a converted model has it at hand.
    converted = cache_root() / "models" / f"{gguf.stem}-{found[:16]}"
    if _is_whole(converted):
        return {"pretrained_model_name_or_path": str(converted)}
    return {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}


def _is_whole(folder: Path) -> bool:
    """Whether a converted folder's small files are the ones its manifest names."""
    try:
        recorded = read_json(folder / "manifest.json")["sha256"]
        small = [name for name in recorded if not name.endswith(".safetensors")]
        return "tokenizer.json" in small and all(sha256_of(folder / name) == recorded[name] for name in small)
    except (ArtifactError, OSError, KeyError, TypeError):
        return False


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in DEFINITIONS)


def _from_hub(model_id: str, revision: str | None) -> Path:
    """The hub's cached snapshot if it has a tokenizer, else a download of all but the weights."""
    reason = "it has no tokenizer"
    for local_only in (True, False):
        try:
            folder = Path(
                snapshot_download(model_id, revision=revision, local_files_only=local_only, allow_patterns=HUB_FILES)
            )
        except Exception as error:  # whatever the hub's client raises when the network is not there
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            continue
        if _has_tokenizer(folder):
            return folder
    raise ModelError(
        f"The tokenizer of {model_id} (revision {revision or 'main'}) is neither in the hub cache nor reachable: "
        f"{reason} Say model=local model.path=<folder>, or use the embedded model, model=smollm2."
    )
