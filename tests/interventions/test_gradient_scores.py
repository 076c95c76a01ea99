"""Scores from gradients, against finite differences of full forwards, plain autograd, and the exact effects."""

import shutil
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import load_local
from families import FAMILIES, tiny, tiny_editable
from hypothesis import given
from hypothesis import strategies as st
from planted import plant, saturated, staircase
from sweep_checks import KeepFloat64, all_heads, few, lengths_of_prompts, prompts_of, seeds, values_of
from torch import Tensor

from fv.config import Quant
from fv.errors import ConfigError, ModelError
from fv.interventions.edits import AddVector
from fv.interventions.engines import make_engine
from fv.interventions.gradient_scores import head_scores
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


@contextmanager
def heads_replaced(lm: LanguageModel, change: Any) -> Iterator[None]:
    """Plain hooks: the input of each layer's projection becomes `change(layer, input)`."""
    handles = [
        module.register_forward_pre_hook(lambda _m, args, layer=layer: (change(layer, args[0]), *args[1:]))
        for layer, module in enumerate(lm.out_projs)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def full_logprob(lm: LanguageModel, prompt: Prompt) -> Tensor:
    """log p(target) from a full forward."""
    ids = torch.tensor([prompt.token_ids])
    logits = lm.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    return logits[0, -1].double().log_softmax(-1)[prompt.target]


def own_outputs(lm: LanguageModel, prompt: Prompt) -> Tensor:
    """(n_layers, n_heads, head_dim) at the last token, from a full forward."""
    found: dict[int, Tensor] = {}

    def keep(layer: int, outputs: Tensor) -> Tensor:
        found[layer] = outputs[0, -1].clone()
        return outputs

    with torch.no_grad(), heads_replaced(lm, keep):
        full_logprob(lm, prompt)
    return torch.stack([found[i] for i in range(lm.n_layers)]).unflatten(-1, (lm.n_heads, lm.head_dim))


def with_heads_set(lm: LanguageModel, prompt: Prompt, values: Mapping[tuple[int, int], Tensor]) -> float:
    """log p(target) with some heads' last-token outputs set, from a full forward."""

    def change(layer: int, outputs: Tensor) -> Tensor:
        outputs = outputs.clone()
        for (at, head), value in values.items():
            if at == layer:
                outputs[0, -1, lm.head_slice(head)] = value
        return outputs

    with torch.no_grad(), heads_replaced(lm, change):
        return float(full_logprob(lm, prompt))


def slope(lm: LanguageModel, prompt: Prompt, at: Mapping[Any, Tensor], head: tuple[int, int], change: Tensor) -> float:
    """The central difference of log p(target) as one head of `at`, which are set, moves on by `change`."""
    step = 1e-5
    ahead, behind = (with_heads_set(lm, prompt, {**at, head: at[head] + s * change}) for s in (step, -step))
    return (ahead - behind) / (2 * step)


def scores_by_autograd(lm: LanguageModel, prompt: Prompt, values: Tensor) -> Tensor:
    """(n_layers, n_heads) from one graph through the whole model and the whole prompt."""
    outputs: dict[int, Tensor] = {}

    def keep(layer: int, before: Tensor) -> Tensor:
        outputs[layer] = before if before.requires_grad else before.clone().requires_grad_()
        return outputs[layer]

    with torch.enable_grad(), heads_replaced(lm, keep):
        logprob = full_logprob(lm, prompt)
    layers = [outputs[layer] for layer in range(lm.n_layers)]
    gradients = torch.stack([g[0, -1] for g in torch.autograd.grad(logprob, layers)])  # (n_layers, n_heads * head_dim)
    own = torch.stack([layer[0, -1].detach() for layer in layers])
    products = (values.to(own.dtype).flatten(1) - own) * gradients
    return products.double().unflatten(-1, (lm.n_heads, lm.head_dim)).sum(-1)


# Every family


@pytest.mark.parametrize("family", FAMILIES)
def test_a_score_is_the_slope_of_full_forwards_towards_the_value(family: str) -> None:
    lm = tiny(family, torch.float64)
    with KeepFloat64():
        (prompt,), values = prompts_of(lm, [7]), values_of(lm).double()
        own = own_outputs(lm, prompt)
        found = head_scores(lm, [prompt], values)[0]
        for head in all_heads(lm):
            due = slope(lm, prompt, {head: own[head]}, head, values[head] - own[head])
            assert float(found[head]) == pytest.approx(due, rel=1e-5, abs=1e-7)
    assert found.abs().min() > 1e-6  # every head is seen


@pytest.mark.parametrize("family", FAMILIES)
def test_an_integrated_score_is_the_mean_slope_on_the_way_of_a_layers_heads(family: str) -> None:
    lm = tiny(family, torch.float64)
    with KeepFloat64():
        (prompt,), values = prompts_of(lm, [7]), values_of(lm).double()
        own = own_outputs(lm, prompt)
        found = head_scores(lm, [prompt], values, "integrated", points=2)[0]
        for head in all_heads(lm)[::3]:
            ways = [own + share * (values - own) for share in (0.25, 0.75)]
            layers = [{(head.layer, other): way[head.layer, other] for other in range(lm.n_heads)} for way in ways]
            due = [slope(lm, prompt, layer, head, values[head] - own[head]) for layer in layers]
            assert float(found[head]) == pytest.approx(sum(due) / 2, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_scores_of_a_batch_are_those_of_plain_autograd(family: str, dtype: torch.dtype, tolerance: float) -> None:
    lm = tiny(family, dtype)
    prompts, values = prompts_of(lm, [7, 1, 12, 7, 3]), values_of(lm)
    with KeepFloat64() if dtype is torch.float64 else nullcontext():
        found = head_scores(lm, prompts, values, max_rows=30)
        due = torch.stack([scores_by_autograd(lm, prompt, values) for prompt in prompts])
    assert found.dtype is torch.float64 and found.device.type == "cpu"
    torch.testing.assert_close(found, due, rtol=0, atol=tolerance * max(1.0, float(due.abs().max())))
    assert due.abs().max() > 0.05


# Batches


@few
@given(lengths=lengths_of_prompts, max_rows=st.sampled_from([2, 13, 4096]), seed=seeds)
@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_prompts_scores_do_not_depend_on_its_batch(family: str, lengths: list[int], max_rows: int, seed: int) -> None:
    lm = tiny(family)
    prompts, values = prompts_of(lm, lengths, seed), values_of(lm, seed)
    done: list[int] = []
    for method in ("gradient", "integrated"):
        found = head_scores(lm, prompts, values, method, points=2, max_rows=max_rows, advance=done.append)
        alone = torch.cat([head_scores(lm, [prompt], values, method, points=2) for prompt in prompts])
        torch.testing.assert_close(found, alone, rtol=1e-4, atol=2e-5)
    assert sum(done) == 2 * len(prompts)


# Scores and effects


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "mixtral", "falcon"])
@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_of_small_moves_a_score_is_the_exact_effect(family: str, method: str) -> None:
    lm = tiny(family, torch.float64)
    with KeepFloat64():
        (prompt,) = prompts_of(lm, [6])
        values = own_outputs(lm, prompt) + 1e-5 * values_of(lm).double()
        exact = make_engine(lm, "auto", 64).patch_heads([prompt], values, all_heads(lm))
        effects = (exact.patched - exact.unpatched)[0].view(lm.n_layers, lm.n_heads)
        scores = head_scores(lm, [prompt], values, method)[0]
    torch.testing.assert_close(scores / effects, torch.ones_like(effects), rtol=0, atol=1e-2)


def effects_by_full_forwards(lm: LanguageModel, prompt: Prompt, values: Tensor) -> Tensor:
    """The exact effect of each head, (n_layers, n_heads)."""
    before = with_heads_set(lm, prompt, {})
    after = [with_heads_set(lm, prompt, {head: values[head]}) for head in all_heads(lm)]
    return (torch.tensor(after) - before).view(lm.n_layers, lm.n_heads)


@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_a_layer_that_answers_in_steps_is_not_seen(method: str) -> None:
    lm = tiny("llama")
    plant(lm, 1, staircase)
    (prompt,), values = prompts_of(lm, [6]), 2 * values_of(lm)
    scores, effects = head_scores(lm, [prompt], values, method)[0], effects_by_full_forwards(lm, prompt, values)
    assert (scores[1] == 0).all() and (scores[[0, 2]] != 0).all()
    assert effects[1].abs().min() > 0.05


def test_a_saturated_head_is_seen_by_integrated_scores_alone() -> None:
    lm, layer, head = tiny("llama"), 1, 2
    (prompt,), values = prompts_of(lm, [6]), values_of(lm)
    own = own_outputs(lm, prompt)
    values = own + 0.1 * (values - own)
    values[layer, head] = own[layer, head] + 20 * (values[layer, head] - own[layer, head])
    plant(lm, layer, saturated(lm, head, own[layer, head], values[layer, head]))
    effects = effects_by_full_forwards(lm, prompt, values)
    assert effects.abs().argmax() == layer * lm.n_heads + head
    by_gradient, by_way = (head_scores(lm, [prompt], values, method)[0] for method in ("gradient", "integrated"))
    assert by_gradient[layer, head].abs() < 1e-4 < 0.5 < effects[layer, head].abs()
    assert by_way.abs().argmax() == layer * lm.n_heads + head
    assert by_way[layer, head] / effects[layer, head] > 0.5


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "falcon"])
def test_of_a_head_that_moves_alone_many_points_add_up_to_its_effect(family: str) -> None:
    lm, layer, head = tiny(family), 0, 1
    (prompt,) = prompts_of(lm, [6])
    values = own_outputs(lm, prompt)
    values[layer, head] += values_of(lm)[layer, head]
    effects = effects_by_full_forwards(lm, prompt, values)
    off = {
        name: float((head_scores(lm, [prompt], values, name, points=64)[0] - effects).abs().max() / effects.abs().max())
        for name in ("gradient", "integrated")
    }
    assert off["integrated"] < 1e-3 and off["gradient"] > 1e-2


# What a pass leaves alone


@pytest.mark.parametrize("family", ["llama", "gpt_neo"])
@pytest.mark.parametrize("method", ["gradient", "integrated"])
def test_a_graph_holds_rows_of_one_block_and_no_prefix(family: str, method: str) -> None:
    lm = tiny(family)
    lm.model.requires_grad_(True)
    tokens: list[int] = []  # of each block that ran with a graph
    others: list[int] = []
    graphs: list[weakref.ref[Tensor]] = []

    def note(_block: Any, args: Any, output: Any) -> None:
        behind = output[0] if isinstance(output, tuple) else output
        (tokens if behind.requires_grad else others).append(args[0].shape[:2].numel())
        assert all(graph() is None for graph in graphs)
        graphs.extend([weakref.ref(behind)] if behind.requires_grad else [])

    for block in lm.blocks:
        block.register_forward_hook(note)
    head_scores(lm, prompts_of(lm, [6, 6]), values_of(lm), method, points=3)
    rows = {"gradient": [1] * lm.n_layers, "integrated": [3 * (1 + layer) for layer in reversed(range(lm.n_layers))]}
    assert tokens == [2 * n_rows for n_rows in rows[method]]
    assert max(others) >= 2 * 5  # the prompts


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_parameters_and_the_callers_grad_mode_are_left_alone(mode: Any) -> None:
    lm = tiny("llama")
    lm.model.requires_grad_(True).train()
    prompts, due = prompts_of(lm, [5]), head_scores(lm, prompts_of(lm, [5]), values_of(lm))
    with mode():
        before = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        found = head_scores(lm, prompts, values_of(lm))
        assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == before
    assert torch.equal(found, due)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in lm.model.parameters())
    assert lm.model.training


def test_a_model_that_is_being_edited_is_not_scored() -> None:
    lm = tiny_editable("llama")
    with pytest.raises(ModelError, match="being edited"), lm.edited(AddVector(1, torch.ones(lm.d_model))):
        head_scores(lm, prompts_of(lm, [5]), values_of(lm))


def test_weights_in_four_bits_on_a_cpu_are_refused(smollm2_folder: Path, tmp_path: Path) -> None:
    # Its kernels for them give no gradients on some processors, and no error either.
    pytest.importorskip("bitsandbytes")
    tiny("llama", hidden_size=64, head_dim=16, intermediate_size=128).model.save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(smollm2_folder / name, tmp_path / name)
    lm = load_local(tmp_path, quant=Quant.nf4)
    with pytest.raises(ModelError, match="quantised weights on a CPU"):
        head_scores(lm, prompts_of(lm, [6]), values_of(lm))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"method": "magic"}, r"^method='magic' must be one of gradient, integrated\.$"),
        ({"points": 0}, r"^points=0 must be a whole number of 1 or more\.$"),
        ({"head_values": torch.zeros(3, 4, 11)}, r"^head_values has the shape \(3, 4, 11\), where .*12\), is due\.$"),
    ],
)
def test_what_cannot_be_scored_is_refused(wrong: dict[str, Any], told: str) -> None:
    lm = tiny("llama")
    with pytest.raises(ConfigError, match=told):
        head_scores(lm, **{"prompts": prompts_of(lm, [5]), "head_values": values_of(lm), **wrong})
