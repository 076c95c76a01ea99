"""A model's shape: its modules on torch's meta device, without weights, with its own or another tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fv.config import ComputeConfig, ModelConfig
from fv.errors import ModelError
from fv.models.files import first_line, has_tokenizer
from fv.models.language_model import LanguageModel
from fv.models.loading import DTYPES
from fv.models.quiet import quiet_transformers
from fv.models.spec import ModelSpec, find_spec
from fv.models.tokenizer import ModelTokenizer, load_tokenizer, tokenizer_source


def load_shape(model: ModelConfig, compute: ComputeConfig) -> LanguageModel:
    """Load a model's shape, which has everything but numbers: it tokenises, and has modules, widths and a family.

    Args:
        model: the model; only its configuration and tokenizer are read.
        compute: the number format.

    Raises:
        ModelError: there is no such model, or it has no tokenizer or is of an unknown family.

    Example:
        >>> load_shape(model_preset("smollm2"), ComputeConfig()).n_layers
        30
    """
    found = load_tokenizer(model)
    config = _configuration(**tokenizer_source(model))
    return _empty(config, compute, found.spec, found, model.name, found.fingerprint)


def load_bare_shape(model: ModelConfig, compute: ComputeConfig, borrowed: ModelTokenizer) -> LanguageModel:
    """Load the shape of a model whose folder has a configuration but no tokenizer; it borrows another model's.

    Args:
        model: the model, by its folder.
        compute: the number format.
        borrowed: the holder of the other tokenizer.

    Raises:
        ModelError: the folder has no configuration of a model, or the model is of an unknown family.
    """
    config = _configuration(str(model.path))
    spec = find_spec(config.model_type, model.spec, model.spec_file, model.called)
    return _empty(config, compute, spec, borrowed, model.name, borrowed.fingerprint)


def is_bare(model: ModelConfig) -> bool:
    """True if a model is a folder with a configuration but no tokenizer."""
    folder = Path(model.path) if model.path is not None else None
    return folder is not None and (folder / "config.json").is_file() and not has_tokenizer(folder)


def shape_of_facts(
    name: str, facts: Mapping[str, Any], compute: ComputeConfig, borrowed: ModelTokenizer
) -> LanguageModel:
    """Make the shape of a model from the values of its configuration, without any file; it borrows a tokenizer.

    Args:
        name: the model's name.
        facts: values of a `config.json`: `model_type`, widths and counts.
        compute: the number format.
        borrowed: the holder of another model's tokenizer.

    Raises:
        ModelError: there is no such type of model, a value does not fit it, or it is of an unknown family.
    """
    rest = {key: value for key, value in facts.items() if key != "model_type"}
    spec = find_spec(str(facts.get("model_type")))
    try:
        config = AutoConfig.for_model(facts["model_type"], **rest)
    except Exception as error:  # a configuration raises many kinds of errors about a value
        raise ModelError(f"The shape {name} is no configuration of a model: {first_line(error)}") from error
    return _empty(config, compute, spec, borrowed, name, borrowed.fingerprint)


def _configuration(pretrained_model_name_or_path: str, **source: Any) -> Any:
    """The configuration from a model's files."""
    try:
        with quiet_transformers():
            return AutoConfig.from_pretrained(pretrained_model_name_or_path, **source, trust_remote_code=False)
    except Exception as error:  # a loader raises many kinds of errors about a configuration
        raise _no_model(pretrained_model_name_or_path, error) from error


def _empty(
    config: Any,
    compute: ComputeConfig,
    spec: ModelSpec,
    found: ModelTokenizer,
    name: str,
    fingerprint: Mapping[str, str],
) -> LanguageModel:
    """A model on the meta device, by its configuration."""
    try:
        with quiet_transformers(), torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(
                config, dtype=DTYPES[compute.dtype], attn_implementation="eager", trust_remote_code=False
            )
    except Exception as error:  # a model raises many kinds of errors about its configuration
        raise _no_model(name, error) from error
    return LanguageModel(empty.eval().requires_grad_(False), found.tokenizer, spec, name, dict(fingerprint))


def _no_model(name: str, error: Exception) -> ModelError:
    return ModelError(f"{name} has no usable configuration of a model: {first_line(error)}")
