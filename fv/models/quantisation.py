"""Quantisation of weights: the kind that is made at load, and the kinds for which engines are not exact."""

import importlib.util
from typing import TypedDict

import torch
from transformers import BitsAndBytesConfig

from fv.config import ModelConfig, Quant
from fv.errors import ModelError


class Quantising(TypedDict, total=False):
    """Arguments of `from_pretrained` that quantise weights."""

    quantization_config: BitsAndBytesConfig
    device_map: dict[str, str]


def quantising(model: ModelConfig, dtype: torch.dtype, device: str) -> Quantising:
    """Arguments of `from_pretrained` that quantise the weights by the settings; none for `none`.

    Raises:
        ModelError: bitsandbytes is not installed.
    """
    if model.quant is Quant.none:
        return {}
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(f"{model.called('quant')}=nf4 needs bitsandbytes: pip install 'function-vectors[quant]'.")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_use_double_quant=True,
    )
    return {"quantization_config": config, "device_map": {"": device}}


def check_quantised(model: torch.nn.Module, name: str) -> None:
    """Refuse weights that engines cannot read, or with which a row's numbers depend on other rows.

    Args:
        model: the model.
        name: the model's name in the message.

    Raises:
        ModelError: the model has such weights; says why, and what to give instead.
    """
    for path, module in model.named_modules():
        if type(module).__name__ == "Linear8bitLt":
            raise ModelError(
                f"{name} is quantised by LLM.int8 ({path}), which also rounds activations, by outliers of all rows of "
                "a pass together: a row would have no numbers of its own. Load it unquantised, or with quant=nf4."
            )
        weight = getattr(module, "weight", None)
        owners = (type(module).__module__, type(weight).__module__)
        if any(owner.startswith(("torch.ao.", "torchao.")) for owner in owners):
            raise ModelError(
                f"{name} is quantised by torch.ao ({path}), whose packed weights cannot be read head by head: give the "
                "model before it was quantised, or load it with quant=nf4."
            )
