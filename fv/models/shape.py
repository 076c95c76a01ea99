"""A model's shape: its modules on torch's meta device, without weights, beside its tokenizer."""

from collections.abc import Mapping

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fv.config import ComputeConfig, ModelConfig
from fv.errors import ModelError
from fv.models.files import first_line
from fv.models.language_model import LanguageModel
from fv.models.loading import DTYPES
from fv.models.quiet import quiet_transformers
from fv.models.tokenizer import load_tokenizer, tokenizer_source


def load_shape(
    model: ModelConfig, compute: ComputeConfig, fingerprint: Mapping[str, str] | None = None
) -> LanguageModel:
    """A model that can be asked for everything but numbers: it tokenises, and has modules, widths and a family.

    Args:
        model: which one; of its files, the configuration and the tokenizer are read.
        compute: the number format.
        fingerprint: what identifies its weights and tokenizer, where that is known; the tokenizer's alone unless given.

    Raises:
        ModelError: there is no such model, or it has no tokenizer or is of an unknown family.

    Example:
        >>> load_shape(model_preset("smollm2"), ComputeConfig()).n_layers
        30
    """
    found = load_tokenizer(model)
    source = tokenizer_source(model)
    try:
        with quiet_transformers(), torch.device("meta"):
            config = AutoConfig.from_pretrained(**source, trust_remote_code=False)
            empty = AutoModelForCausalLM.from_config(
                config, dtype=DTYPES[compute.dtype], attn_implementation="eager", trust_remote_code=False
            )
    except Exception as error:  # whatever a loader raises about a configuration
        name = source["pretrained_model_name_or_path"]
        raise ModelError(f"{name} has no usable configuration of a model: {first_line(error)}") from error
    known = dict(fingerprint) if fingerprint is not None else found.fingerprint
    return LanguageModel(empty.eval().requires_grad_(False), found.tokenizer, found.spec, model.name, known)
