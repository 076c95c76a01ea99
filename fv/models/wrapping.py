"""Wrapping a model in memory as a `LanguageModel`; nothing in the model is changed."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fv.config.checks import check_name, safe_name
from fv.errors import ModelError
from fv.files import digest_of
from fv.models.identity import IN_MEMORY
from fv.models.language_model import LanguageModel
from fv.models.placement import check_blocks
from fv.models.quantisation import check_quantised
from fv.models.spec import find_spec
from fv.models.token_ids import tokenizer_digest


def wrap_unproved(
    model: Any, tokenizer: Any, name: str | None = None, spec: str | None = None, spec_file: str | None = None
) -> LanguageModel:
    """Wrap a model in memory with its family's spec, without proof that edits act on it (`fv.interventions.wrap`).

    Raises:
        ModelError: the model is no causal language model of a known family with its weights in memory, or the tokenizer
            is not its own; names the argument and what would be right.
        ConfigError: `name` could not name a folder.
    """
    _check_kinds(model, tokenizer)
    found = find_spec(model.config.model_type, spec or "auto", spec_file)
    _check_causal(model)
    _check_weights(model)
    if devices := getattr(model, "hf_device_map", None):
        check_blocks(devices, found, "The device map of model")
    _check_vocabulary(model, tokenizer)
    if name is not None:
        check_name("name", name)
    fingerprint = {
        "source": IN_MEMORY,
        "class": type(model).__name__,
        "weights_sha256": weights_digest(model),
        "tokenizer_sha256": tokenizer_digest(tokenizer),
    }
    if spec_file is not None:
        fingerprint["spec_sha256"] = digest_of(asdict(found))
    return LanguageModel(model, tokenizer, found, name or _name_of(model), fingerprint)


def weights_digest(model: PreTrainedModel) -> str:
    """SHA-256 of a model's current state: names, number formats, shapes and values."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        # As bytes, because NumPy has no bfloat16: (n_bytes,) uint8
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _check_kinds(model: Any, tokenizer: Any) -> None:
    if isinstance(model, PreTrainedTokenizerBase) and isinstance(tokenizer, torch.nn.Module):
        raise ModelError("model is a tokenizer and tokenizer a model: the model comes first, wrap(model, tokenizer).")
    if isinstance(model, str | Path):
        raise ModelError(f"model is the name {str(model)!r}, not a model: load_model loads one by its name.")
    kind = type(model).__name__
    if hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None:
        raise ModelError(f"model is a compiled {kind}, in which hooks may not act: give the model that was compiled.")
    if hasattr(model, "peft_config") or getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(
            f"model is a {kind} with adapters, which its projections' weights do not show: merge them first, with "
            "model.merge_and_unload() of peft."
        )
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"model is a {kind}, where a Hugging Face …ForCausalLM is due.")
    check_quantised(model, f"model, a {kind},")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        hint = " It has one: give its .tokenizer." if hasattr(tokenizer, "tokenizer") else ""
        raise ModelError(f"tokenizer is a {type(tokenizer).__name__}, where a Hugging Face tokenizer is due.{hint}")


def _check_causal(model: PreTrainedModel) -> None:
    if model.get_output_embeddings() is None or not model.can_generate():
        raise ModelError(
            f"model is a {type(model).__name__}, which predicts no next token: give the …ForCausalLM around the same "
            "weights."
        )


def _check_weights(model: PreTrainedModel) -> None:
    if away := [name for name, parameter in model.named_parameters() if parameter.is_meta]:
        raise ModelError(
            f"model has no weights in memory for {away[0]} ({len(away)} in all are on the device meta). Give a model "
            "whose weights are loaded; one that is offloaded comes from load_model(…, device_map=…)."
        )


def _check_vocabulary(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    known, rows = tokenizer.vocab_size, model.get_input_embeddings().num_embeddings
    if known > rows:
        raise ModelError(
            f"tokenizer has a vocabulary of {known} and model embeds {rows} tokens: it is another model's tokenizer."
        )


def _name_of(model: PreTrainedModel) -> str:
    """The last part of the path or id that a model was loaded from, if it can name a folder; else the model's type."""
    return safe_name(Path(model.config.name_or_path or "").name, model.config.model_type)
