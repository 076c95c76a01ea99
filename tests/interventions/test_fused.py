"""Fused element-wise code is proved on the model at hand, used only where it is the same, and never left in a model."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from families import FAMILIES, tiny, tiny_tokenizer
from sweep_checks import all_heads, assert_patches_close, prompts_of, values_of
from torch import Tensor, nn

from fv.errors import SpecError
from fv.interventions import fused
from fv.interventions.edits import AddVector
from fv.interventions.engine import PatchScores
from fv.interventions.engines import make_engine
from fv.interventions.fused import FUSED, USED, fused_modules, prove_fused, short_prompt
from fv.interventions.selfcheck import selfcheck
from fv.interventions.wrapping import wrap
from fv.models.language_model import LanguageModel

USED_BY = {
    "llama": {"LlamaMLP", "LlamaRMSNorm"},
    "gpt2": {"NewGELUActivation"},
    "gptj": {"NewGELUActivation"},
    "gemma3_text": {"Gemma3MLP", "Gemma3RMSNorm"},
    "qwen3": {"Qwen3MLP", "Qwen3RMSNorm"},
    "olmo2": {"Olmo2MLP", "Olmo2RMSNorm"},
}


def modules_by_class(lm: LanguageModel) -> dict[str, nn.Module]:
    return {type(module).__name__: module for module in lm.model.modules() if type(module).__name__ in FUSED}


def width_of(module: Any) -> int:
    if hasattr(module, "gate_proj"):
        return module.gate_proj.in_features
    return len(module.weight) if hasattr(module, "weight") else 24


def own_forwards(lm: LanguageModel) -> list[nn.Module]:
    return [module for module in lm.model.modules() if "forward" in vars(module)]


def effects(lm: LanguageModel, mode: str = "auto") -> PatchScores:
    return make_engine(lm, mode, 64).patch_heads(prompts_of(lm, [5, 3]), values_of(lm), all_heads(lm))


def unproved(lm: LanguageModel) -> LanguageModel:
    """The same model, of which a self-check found that nothing may be fused."""
    return replace(lm, selfcheck={USED: {}})


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_fused_is_the_modules_own_forward(family: str) -> None:
    lm = tiny(family)
    for name, module in modules_by_class(lm).items():
        for scale, rows in ((0.05, 1), (1.0, 7), (300.0, 40)):
            hidden = scale * torch.randn(2, rows, width_of(module), generator=torch.Generator().manual_seed(rows))
            with torch.no_grad():
                due = module(hidden.clone())
                found = FUSED[name](module, hidden)
            torch.testing.assert_close(found, due, rtol=0, atol=2e-6 * float(due.abs().max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_effects_are_the_same_with_fused_code_and_without(family: str) -> None:
    lm = tiny(family)
    found = prove_fused(lm)
    used = {name for name, error in found.items() if error is not None}
    assert used >= USED_BY.get(family, set())
    assert_patches_close(effects(replace(lm, selfcheck={USED: found})), effects(unproved(lm)))


def test_a_fused_call_that_is_off_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = tiny("llama")
    before = effects(unproved(lm))
    monkeypatch.setitem(FUSED, "LlamaRMSNorm", lambda module, hidden: 1.001 * fused.rms_norm(module, hidden))
    monkeypatch.setitem(FUSED, "LlamaMLP", lambda module, hidden: module.no_such_part(hidden))
    proved = selfcheck(lm)
    assert proved[USED] == {"LlamaMLP": None, "LlamaRMSNorm": None}
    after = effects(replace(lm, selfcheck=proved))
    assert torch.equal(after.patched, before.patched)


def test_the_self_check_refuses_fused_code_that_only_its_last_comparison_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is off for other rows than those of the prompt on which each module is compared with itself."""
    lm, own = tiny("llama"), fused.rms_norm
    due = (1, len(short_prompt(lm)))
    monkeypatch.setitem(
        FUSED, "LlamaRMSNorm", lambda module, hidden: own(module, hidden) * (1.0 if hidden.shape[:2] == due else 1.2)
    )
    assert prove_fused(lm)["LlamaRMSNorm"] is not None
    with pytest.raises(SpecError, match="away from the naive loop"):
        selfcheck(lm)


@pytest.mark.parametrize("mode", ["auto", "expanded", "naive"])
def test_nothing_stays_in_an_owners_model(mode: str) -> None:
    lm = wrap(deepcopy(tiny("llama").model), tiny_tokenizer(), selfcheck=False)
    ids = torch.tensor([[5, 9, 11]])
    before = lm.model(ids).logits
    assert not own_forwards(lm)
    engine, prompts = make_engine(lm, mode, 64), prompts_of(lm, [4])
    engine.answers(prompts, [None, AddVector(0, torch.ones(lm.d_model))])
    assert not own_forwards(lm) and torch.equal(lm.model(ids).logits, before)

    def fail(_module: nn.Module, _args: Any) -> None:
        assert mode == "naive" or own_forwards(lm)
        raise RuntimeError("stop")

    handle = lm.blocks[1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="stop"):
        engine.answers(prompts, [None])
    handle.remove()
    assert not own_forwards(lm) and torch.equal(lm.model(ids).logits, before)


def test_the_oracle_runs_the_models_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def counted(name: str, own: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
        def noted(module: Any, hidden: Tensor) -> Tensor:
            called.append(name)
            return own(module, hidden)

        return noted

    lm = tiny("llama")
    proved = replace(lm, selfcheck={USED: prove_fused(lm)})
    for name in USED_BY["llama"]:
        monkeypatch.setitem(FUSED, name, counted(name, FUSED[name]))
    effects(proved, "naive")
    assert not called
    effects(proved)
    assert {*called} == USED_BY["llama"]


def test_a_module_with_a_forward_of_its_own_keeps_it() -> None:
    """accelerate sets one that brings a module's weights from where they are."""
    lm = tiny("llama")
    norm: Any = lm.blocks[0].input_layernorm
    calls: list[int] = []

    def forward(hidden: Tensor) -> Any:
        calls.append(1)
        return type(norm).forward(norm, hidden)

    norm.forward = forward
    try:
        with fused_modules(lm):
            own = norm.forward
            lm.model(torch.tensor([[1, 2]]))
        assert norm.forward is own and calls
    finally:
        del norm.forward


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_left_alone(dtype: torch.dtype) -> None:
    lm = tiny("llama")
    other = replace(lm, model=type(lm.model)(lm.model.config).to(dtype).eval(), selfcheck={})
    assert prove_fused(other) == {}
    assert prove_fused(lm)
