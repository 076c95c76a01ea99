"""Checks of the values of edits before anything runs: each must fit the model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fv.errors import ConfigError
from fv.models.language_model import LanguageModel


def check_layer(name: str, layer: Any, lm: LanguageModel) -> None:
    """Check that a value is the number of one of the model's layers.

    Raises:
        ConfigError: it is not; `name` is its name in the message.
    """
    check_below(name, layer, lm.n_layers, f"layers of {lm.name}")


def check_below(name: str, value: Any, size: int, what: str) -> None:
    """Check that a value is a whole number from 0 to `size` - 1; `what` there are `size` of."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
        raise ConfigError(f"{name}={value!r} must be one of 0 to {size - 1}, the {what}.")


def check_vector(name: str, value: Any, lm: LanguageModel) -> None:
    """Check that a value is a (d_model,) tensor of numbers that are finite in the model's number format."""
    check_tensor(name, value, (lm.d_model,), "as the residual stream has it", lm)


def check_added(name: str, value: Any, lm: LanguageModel) -> None:
    """Check a vector like `check_vector`, and that adding it changes something."""
    check_vector(name, value, lm)
    if not value.to(lm.dtype).any():
        raise ConfigError(f"{name} is zero in the model's number format, so adding it would change nothing.")


def check_tensor(name: str, value: Any, shape: tuple[int, ...], why: str, lm: LanguageModel) -> None:
    """Check that a value is a tensor of this shape, of numbers that are finite in the model's number format."""
    check_floating(name, value)
    if tuple(value.shape) != shape:
        raise ConfigError(f"{name} has the shape {tuple(value.shape)}, where {shape} is due, {why}.")
    check_finite(name, value, lm)


def check_floating(name: str, value: Any) -> None:
    """Check that a value is a tensor of a floating-point format."""
    if not isinstance(value, Tensor):
        raise ConfigError(f"{name} is a {type(value).__name__}: give a tensor, such as torch.as_tensor makes of it.")
    if not value.dtype.is_floating_point:
        raise ConfigError(f"{name} is of {value.dtype}: give numbers of a floating-point format.")


def check_finite(name: str, value: Tensor, lm: LanguageModel) -> None:
    """Check that a tensor is finite in the model's number format."""
    if not torch.isfinite(value.to(lm.dtype)).all():
        raise ConfigError(f"{name} is not finite in the model's number format, {lm.dtype}.")


def is_number(value: Any) -> bool:
    """Tell whether a value is a finite number, not a tensor."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and bool(torch.isfinite(torch.tensor(float(value))))


def check_share(name: str, share: Any) -> None:
    """Check that a share is a finite number other than 0."""
    if not is_number(share) or share == 0:
        raise ConfigError(f"{name}={share!r} must be a finite number other than 0, such as 1.0 for all.")


def check_heads(name: str, heads: Sequence[Any], lm: LanguageModel) -> None:
    """Check that each head is a (layer, head) of the model, and that there is one."""
    if not heads:
        raise ConfigError(f"{name} is empty, so it would change nothing: name heads as (layer, head).")
    for head in heads:
        if not isinstance(head, tuple) or len(head) != 2:
            raise ConfigError(f"{name} names {head!r}, which is no (layer, head).")
        check_below(f"{name}: layer", head[0], lm.n_layers, f"layers of {lm.name}")
        check_below(f"{name}: head", head[1], lm.n_heads, f"heads of a layer of {lm.name}")
