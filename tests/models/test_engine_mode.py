"""The state in which engines run a model: that of a loaded one, and the owner's own again afterwards."""

from typing import Any

import pytest
import torch
from families import tiny
from torch import nn
from transformers import PreTrainedModel

from fv.models.engine_mode import engine_mode

IDS = torch.tensor([[5, 9, 40, 7, 11]])


def owned(family: str, **changes: Any) -> PreTrainedModel:
    """A model as its owner may have it: training, with gradients, another attention, and other outputs."""
    model = tiny(family, **changes).model.train().requires_grad_(True)
    model.lm_head.eval() if hasattr(model, "lm_head") else None
    model.config._attn_implementation = "sdpa" if model._supports_sdpa else "eager"
    model.config.return_dict = False
    model.config.output_hidden_states = True
    return model


def state_of(model: PreTrainedModel) -> tuple[Any, ...]:
    """All of a model that its owner can see, but for its weights' values."""
    modes = {name: module.training for name, module in model.named_modules()}
    parameters = {name: (p.requires_grad, p.dtype, p.device, id(p)) for name, p in model.named_parameters()}
    hooks = [list(module._forward_hooks) + list(module._forward_pre_hooks) for module in model.modules()]
    private = (model.config._attn_implementation, model.config._experts_implementation)
    return modes, parameters, hooks, private, model.config.to_dict(), model.generation_config.to_dict()


@pytest.mark.parametrize("family", ["gpt2", "falcon", "llama", "mixtral", "bloom", "gemma2"])
def test_inside_a_model_gives_the_logits_of_a_loaded_one_and_no_gradient(family: str) -> None:
    model, loaded = owned(family), tiny(family).model
    before = state_of(model)
    with engine_mode(model):
        logits = model(IDS, use_cache=False).logits
        assert torch.equal(logits, loaded(IDS, use_cache=False).logits) and not logits.requires_grad
        assert not any(module.training for module in model.modules())
    assert state_of(model) == before
    assert any(modes for modes in before[0].values())


def test_dropout_would_have_moved_the_logits() -> None:
    model = owned("gpt2", attn_pdrop=0.5, resid_pdrop=0.5)
    model.config.return_dict = True
    free, kept = model(IDS).logits, tiny("gpt2").model(IDS).logits
    assert not torch.allclose(free, kept, atol=1e-2)


def test_experts_run_as_by_default_and_as_before_afterwards() -> None:
    model = tiny("mixtral").model
    usual = model.config._experts_implementation
    model.set_experts_implementation("eager")
    with engine_mode(model):
        assert model.config._experts_implementation == usual != "eager"
    assert model.config._experts_implementation == "eager"


def test_experts_in_float64_run_one_by_one() -> None:
    model = tiny("mixtral").model.double()
    usual = model.config._experts_implementation
    with engine_mode(model):
        model(IDS)
    assert model.config._experts_implementation == usual != "eager"


def test_an_error_inside_puts_everything_back() -> None:
    model = owned("llama")
    before = state_of(model)
    with pytest.raises(KeyError), engine_mode(model):
        raise KeyError
    assert state_of(model) == before and torch.is_grad_enabled()


def test_attentions_as_output_are_put_back_beside_another_implementation() -> None:
    model = tiny("llama").model
    model.config.output_attentions = True
    model.set_attn_implementation("sdpa")
    with engine_mode(model):
        assert model(IDS).attentions is None
    assert (model.config._attn_implementation, model.config.output_attentions) == ("sdpa", True)


def test_a_loaded_model_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama").model
    written: list[str] = []
    monkeypatch.setattr(type(model.config), "__setattr__", lambda _config, name, _value: written.append(name))
    monkeypatch.setattr(nn.Module, "__setattr__", lambda _module, name, _value: written.append(name))
    with engine_mode(model):
        model.config.probe = 1
    assert written == ["probe"]
