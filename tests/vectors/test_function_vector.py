"""Function vectors: the sum over heads, without the projection's bias."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fv.errors import ModelError
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.function_vector import vector_by_layer, vector_of_heads

few = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
chosen_heads = st.lists(st.builds(Head, st.integers(0, 2), st.integers(0, 3)), unique=True, min_size=1)


def mean_of(lm: LanguageModel) -> Tensor:
    return torch.randn(lm.n_layers, lm.n_heads, lm.head_dim, generator=torch.Generator().manual_seed(3))


@few
@given(heads=chosen_heads)
def test_the_vector_is_the_sum_of_what_its_heads_contribute(tiny_lm: LanguageModel, heads: list[Head]) -> None:
    mean = mean_of(tiny_lm)
    expected = sum(tiny_lm.added_by(head.layer, mean[head.layer])[head.head] for head in heads)
    torch.testing.assert_close(vector_of_heads(tiny_lm, mean, heads).double(), expected, rtol=0, atol=1e-5)


def test_the_vector_equals_a_numpy_computation_on_gpt2(tiny_gpt2: LanguageModel) -> None:
    state = tiny_gpt2.model.state_dict()
    mean, heads = mean_of(tiny_gpt2), [Head(2, 1), Head(0, 3)]
    expected = np.zeros(40)
    for layer, head in heads:
        weight = state[f"transformer.h.{layer}.attn.c_proj.weight"].numpy()  # (n_heads * 10, 40), inputs first
        expected += mean[layer, head].numpy().astype(float) @ weight[10 * head : 10 * head + 10]
    np.testing.assert_allclose(vector_of_heads(tiny_gpt2, mean, heads).numpy(), expected, atol=1e-6)


def test_the_vector_equals_a_numpy_computation_on_llama(tiny_llama: LanguageModel) -> None:
    state = tiny_llama.model.state_dict()
    mean, heads = mean_of(tiny_llama), [Head(1, 0), Head(1, 2), Head(2, 3)]
    expected = np.zeros(40)
    for layer, head in heads:
        weight = state[f"model.layers.{layer}.self_attn.o_proj.weight"].numpy()  # (40, n_heads * 12), outputs first
        expected += weight[:, 12 * head : 12 * head + 12] @ mean[layer, head].numpy().astype(float)
    np.testing.assert_allclose(vector_of_heads(tiny_llama, mean, heads).numpy(), expected, atol=1e-6)


def test_all_heads_and_the_bias_make_the_projections_output(tiny_lm: LanguageModel) -> None:
    mean = mean_of(tiny_lm)
    for layer, projection in enumerate(tiny_lm.out_projs):
        bias = projection.bias
        assert isinstance(bias, Tensor) and bias.abs().min() > 0
        heads = [Head(layer, head) for head in range(tiny_lm.n_heads)]
        output = projection(mean[layer].flatten())
        torch.testing.assert_close(vector_of_heads(tiny_lm, mean, heads) + bias, output, rtol=0, atol=2e-6)


def test_the_vector_of_zero_outputs_is_zero(tiny_lm: LanguageModel) -> None:
    # The bias would show here.
    assert not vector_of_heads(tiny_lm, torch.zeros_like(mean_of(tiny_lm)), [Head(0, 0), Head(1, 1)]).any()


@few
@given(heads=chosen_heads)
def test_the_layers_parts_sum_to_the_vector(tiny_lm: LanguageModel, heads: list[Head]) -> None:
    mean = mean_of(tiny_lm)
    parts = vector_by_layer(tiny_lm, mean, heads)
    assert torch.equal(parts.sum(0), vector_of_heads(tiny_lm, mean, heads))
    for layer in range(tiny_lm.n_layers):
        here = [head for head in heads if head.layer == layer]
        torch.testing.assert_close(parts[layer], vector_of_heads(tiny_lm, mean, here), rtol=0, atol=1e-6)
        assert bool(parts[layer].any()) == bool(here)


@few
@given(heads=chosen_heads, data=st.data())
def test_the_order_of_heads_changes_rounding_only(
    tiny_lm: LanguageModel, heads: list[Head], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(heads))
    one, two = (vector_of_heads(tiny_lm, mean_of(tiny_lm), order) for order in (heads, shuffled))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


@pytest.mark.parametrize("grow", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_a_clean_mean_of_another_model_is_refused(tiny_lm: LanguageModel, grow: tuple[int, int, int]) -> None:
    lm = replace(tiny_lm, name="mine")
    shape = tuple(a + b for a, b in zip(mean_of(lm).shape, grow, strict=True))
    with pytest.raises(ModelError) as error:
        vector_of_heads(lm, torch.zeros(shape), [Head(0, 0)])
    assert str(shape) in str(error.value)
    assert str((lm.n_layers, lm.n_heads, lm.head_dim)) in str(error.value)
    assert "mine" in str(error.value)
