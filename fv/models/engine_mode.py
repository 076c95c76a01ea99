"""The mode in which engines run a model; its owner's state is restored afterwards."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

OUTPUTS = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
"""Output settings for engines, whatever the owner's configuration says."""


@contextmanager
def engine_mode(model: PreTrainedModel) -> Iterator[None]:
    """Run a model in the mode of a model that was loaded here: eager attention, no dropout, no gradients.

    Settings that differ are changed for as long as the block lasts and restored afterwards, also after an error. In a
    model that `fv.models.loading` loaded nothing differs, and nothing is changed.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        modules = list(model.modules())
        stack.enter_context(_without_dropout(modules))
        for config in _configs(modules):
            # Not `set_attn_implementation`: families that choose the implementation at each call refuse it.
            stack.enter_context(_with_values(config, {"_attn_implementation": "eager", **OUTPUTS}))
        stack.enter_context(_with_usual_experts(model))
        yield


@contextmanager
def _without_dropout(modules: list[nn.Module]) -> Iterator[None]:
    # Module by module, because an owner may have frozen some of them by `eval()`.
    training = [module for module in modules if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _configs(modules: list[nn.Module]) -> list[Any]:
    """The configurations of a model and of the models inside it, each once."""
    parts = (part for part in modules if isinstance(part, PreTrainedModel))
    return list({id(part.config): part.config for part in parts}.values())


@contextmanager
def _with_values(owner: Any, wanted: Mapping[str, Any]) -> Iterator[None]:
    """Set attributes of an object for as long as the block lasts; only those that differ are touched."""
    before = {name: getattr(owner, name) for name in wanted}
    changed = [name for name, value in wanted.items() if before[name] != value]
    for name in changed:
        setattr(owner, name, wanted[name])
    try:
        yield
    finally:
        # In reverse order: a configuration may refuse attentions as output with another implementation.
        for name in reversed(changed):
            setattr(owner, name, before[name])


@contextmanager
def _with_usual_experts(model: PreTrainedModel) -> Iterator[None]:
    """Run the experts of a mixture by their default implementation, but eagerly in float64, which that lacks."""
    before = model.config._experts_implementation
    usual = "eager" if model.dtype is torch.float64 else model.get_correct_experts_implementation(None)
    if usual == before:
        yield
        return
    model.set_experts_implementation(usual)
    try:
        yield
    finally:
        model.set_experts_implementation(before)
