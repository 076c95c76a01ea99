"""Checks of edits before anything runs: each edit must fit the model, and change something."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fv.errors import ConfigError
from fv.interventions.edits import AddVector, AnyEdit, ReplaceResidual, SetHeads
from fv.models.identity import check_made_by
from fv.models.language_model import LanguageModel


def checked_edits(lm: LanguageModel, edits: AnyEdit | Sequence[AnyEdit]) -> tuple[AnyEdit, ...]:
    """The given edit or edits as a tuple, each checked to act in this model.

    Raises:
        ConfigError: an edit does not fit the model, or would change nothing; names the argument and what would be
            right.

    Warns:
        FvWarning: a vector is known to come from another model.
    """
    found = (edits,) if isinstance(edits, AnyEdit) else tuple(edits) if isinstance(edits, list | tuple) else None
    if not found or not all(isinstance(edit, AnyEdit) for edit in found):
        wrong = next((edit for edit in found if not isinstance(edit, AnyEdit)), None) if found else edits
        kind = "empty" if found == () else f"a {type(wrong).__name__}"
        raise ConfigError(f"edits is {kind}: give an AddVector, a SetHeads, a ReplaceResidual, or a list of them.")
    for edit in found:
        if isinstance(edit, SetHeads):
            _check_heads(lm, edit)
        else:
            _check_residual(lm, edit)
        if isinstance(edit, AddVector):
            check_made_by("AddVector.vector is", edit.made_by, lm)
    return found


def _check_residual(lm: LanguageModel, edit: AddVector | ReplaceResidual) -> None:
    name = type(edit).__name__
    _check_below(f"{name}.layer", edit.layer, lm.n_layers, f"layers of {lm.name}")
    _check_tensor(f"{name}.vector", edit.vector, (lm.d_model,), "as the residual stream has it")
    _check_finite(f"{name}.vector", edit.vector, lm)
    if isinstance(edit, ReplaceResidual):
        _check_share(edit.share)
    elif not edit.vector.to(lm.dtype).any():
        raise ConfigError(f"{name}.vector is zero in the model's number format, so adding it would change nothing.")


def _check_heads(lm: LanguageModel, edit: SetHeads) -> None:
    if not edit.heads:
        raise ConfigError("SetHeads.heads is empty, so it would change nothing: name heads as (layer, head).")
    for head in edit.heads:
        if not isinstance(head, tuple) or len(head) != 2:
            raise ConfigError(f"SetHeads.heads names {head!r}, which is no (layer, head).")
        _check_below("SetHeads.heads: layer", head[0], lm.n_layers, f"layers of {lm.name}")
        _check_below("SetHeads.heads: head", head[1], lm.n_heads, f"heads of a layer of {lm.name}")
    _check_values(lm, edit)
    for number, named in enumerate(edit.heads):
        _check_finite(f"SetHeads.values of head {named[0]}.{named[1]}", edit.value(number, lm.head_dim), lm)


def _check_values(lm: LanguageModel, edit: SetHeads) -> None:
    """Check that the values are a number, or a tensor for every head of the model or for each of the named heads."""
    name, values = "SetHeads.values", edit.values
    if isinstance(values, int | float) and not isinstance(values, bool):
        return
    if not isinstance(values, Tensor):
        raise ConfigError(f"{name} is a {type(values).__name__}: give a tensor, such as torch.as_tensor makes of it.")
    _check_format(name, values)
    of_named, of_all = (len(edit.heads), lm.head_dim), (lm.n_layers, lm.n_heads, lm.head_dim)
    if tuple(values.shape) not in ((), of_named, of_all):
        raise ConfigError(
            f"{name} has the shape {tuple(values.shape)}, where a number is due, or {of_named}, one for each of the "
            f"heads named, or {of_all}, one for every head."
        )
    if values.ndim == 2 and len({*edit.heads}) < len(edit.heads):
        raise ConfigError("SetHeads.heads names a head twice, which would be set to two values: name each once.")


def _check_below(name: str, value: Any, size: int, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
        raise ConfigError(f"{name}={value!r} must be one of 0 to {size - 1}, the {what}.")


def _check_tensor(name: str, value: Any, shape: tuple[int, ...], why: str) -> None:
    if not isinstance(value, Tensor):
        raise ConfigError(f"{name} is a {type(value).__name__}: give a tensor, such as torch.as_tensor makes of it.")
    _check_format(name, value)
    if tuple(value.shape) != shape:
        raise ConfigError(f"{name} has the shape {tuple(value.shape)}, where {shape} is due, {why}.")


def _check_format(name: str, value: Tensor) -> None:
    if not value.dtype.is_floating_point:
        raise ConfigError(f"{name} is of {value.dtype}: give numbers of a floating-point format.")


def _check_finite(name: str, value: Tensor, lm: LanguageModel) -> None:
    if not torch.isfinite(value.to(lm.dtype)).all():
        raise ConfigError(f"{name} is not finite in the model's number format, {lm.dtype}.")


def _check_share(share: Any) -> None:
    number = isinstance(share, int | float) and not isinstance(share, bool)
    if not number or not torch.isfinite(torch.tensor(float(share))) or share == 0:
        raise ConfigError(f"ReplaceResidual.share={share!r} must be a finite number other than 0, such as 1.0 for all.")
