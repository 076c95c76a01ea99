"""The fast sweep against the naive loop, and the naive loop against a forward pass written out by hand."""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from transformers import MistralConfig, MistralForCausalLM
from transformers.models.llama import modeling_llama

from fv import prefix_attention, shared_prefix
from fv.engine import make_sweep
from fv.errors import ConfigError, ModelError
from fv.models.language_model import LanguageModel
from fv.models.loading import load_model
from fv.models.spec import find_spec
from fv.naive import NaiveSweep
from fv.prefix_attention import shared_prefix_attention
from fv.shared_prefix import SharedPrefixSweep
from fv.sweep import Cell, Head, Prompt, TargetScores

TOLERANCE = 2e-5
MAX_ROWS = [2, 3, 5, 17, 4096]

few = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
seeds = st.integers(0, 2**31)
lengths_of_prompts = st.lists(st.integers(1, 14), min_size=1, max_size=4)


def prompts_of(lm: LanguageModel, lengths: list[int], seed: int = 0) -> list[Prompt]:
    """Random prompts of the given numbers of tokens, with random targets."""
    rng = torch.Generator().manual_seed(seed)
    vocabulary = lm.unembedding.weight.shape[0]
    drawn = [torch.randint(0, vocabulary, (length + 1,), generator=rng).tolist() for length in lengths]
    return [Prompt(tuple(ids[:-1]), ids[-1]) for ids in drawn]


def values_of(lm: LanguageModel, seed: int = 0) -> Tensor:
    """A random clean mean, (n_layers, n_heads, head_dim)."""
    return torch.randn(lm.n_layers, lm.n_heads, lm.head_dim, generator=torch.Generator().manual_seed(seed))


def vectors_of(lm: LanguageModel, count: int = 2, seed: int = 0) -> Tensor:
    return torch.randn(count, lm.d_model, generator=torch.Generator().manual_seed(seed))


def for_each(prompts: list[Prompt], vectors: Tensor) -> Tensor:
    """The same vectors for every prompt: (n_prompts, n_vectors, d_model)."""
    return vectors.expand(len(prompts), -1, -1)


def all_heads(lm: LanguageModel) -> list[Head]:
    return [Head(layer, head) for layer in range(lm.n_layers) for head in range(lm.n_heads)]


def all_cells(lm: LanguageModel, alphas: tuple[float, ...] = (-1.5, 0.5)) -> list[Cell]:
    return [Cell(layer, alpha) for layer in range(lm.n_layers) for alpha in alphas]


def assert_close(found: TargetScores, expected: TargetScores, tolerance: float = TOLERANCE) -> None:
    assert found.logprob.shape == expected.logprob.shape
    assert (found.logprob - expected.logprob).abs().max() <= tolerance
    # Tokens that are rated alike may swap places within the tolerance.
    assert (found.rank - expected.rank).abs().max() <= 3


def assert_bit_equal(found: TargetScores, expected: TargetScores) -> None:
    assert torch.equal(found.logprob, expected.logprob)
    assert torch.equal(found.rank, expected.rank)


def assert_patching_agrees(lm: LanguageModel, prompts: list[Prompt], max_rows: int, seed: int = 0) -> None:
    values, heads = values_of(lm, seed), all_heads(lm)
    naive_before, naive_after = NaiveSweep(lm).patch_heads(prompts, values, heads)
    before, after = SharedPrefixSweep(lm, max_rows).patch_heads(prompts, values, heads)
    assert_close(before, naive_before)
    assert_close(after, naive_after)
    assert (naive_after.logprob - naive_before.logprob).abs().max() > 0.01  # there is something to get wrong


def assert_injecting_agrees(lm: LanguageModel, prompts: list[Prompt], max_rows: int, seed: int = 0) -> None:
    vectors, cells = vectors_of(lm, seed=seed), all_cells(lm)
    naive_before, naive_after = NaiveSweep(lm).inject(prompts, for_each(prompts, vectors), cells)
    before, after = SharedPrefixSweep(lm, max_rows).inject(prompts, for_each(prompts, vectors), cells)
    assert_close(before, naive_before)
    assert_close(after, naive_after)
    assert (naive_after.logprob - naive_before.logprob[:, None, None]).abs().max() > 0.01


# The naive loop, against code that shares nothing with it


@pytest.fixture(scope="module")
def gpt2_64(make_config: Any, tiny_gpt2_folder: Any) -> LanguageModel:
    return load_model(
        make_config("model=local", f"model.path={tiny_gpt2_folder}", "compute.dtype=fp64", "compute.strict=false")
    )


@pytest.fixture(scope="module")
def llama_64(make_config: Any, tiny_llama_folder: Any) -> LanguageModel:
    return load_model(
        make_config("model=local", f"model.path={tiny_llama_folder}", "compute.dtype=fp64", "compute.strict=false")
    )


def written_out_gpt2(
    lm: LanguageModel,
    ids: tuple[int, ...],
    patch: tuple[int, int, Tensor] | None = None,
    add: tuple[int, Tensor] | None = None,
) -> Tensor:
    """Log probabilities after `ids` from the float64 state dict of the tiny GPT-2 (40 wide, 4 heads of 10).

    `patch` is (layer, head, value) and `add` is (layer, vector), both at the last token.
    """
    w = lm.model.state_dict()
    n = len(ids)

    def norm(x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, (40,), w[f"{name}.weight"], w[f"{name}.bias"])

    def affine(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    future = torch.full((n, n), -math.inf, dtype=torch.float64).triu(1)
    x = w["transformer.wte.weight"][list(ids)] + w["transformer.wpe.weight"][:n]
    for layer in range(3):
        block = f"transformer.h.{layer}"
        qkv = affine(norm(x, f"{block}.ln_1"), f"{block}.attn.c_attn")
        q, k, v = (part.view(n, 4, 10).transpose(0, 1) for part in qkv.split(40, -1))
        z = ((q @ k.mT / math.sqrt(10) + future).softmax(-1) @ v).transpose(0, 1).clone()  # (positions, heads, 10)
        if patch is not None and patch[0] == layer:
            z[-1, patch[1]] = patch[2]
        x = x + affine(z.reshape(n, 40), f"{block}.attn.c_proj")
        hidden = functional.gelu(affine(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"), approximate="tanh")
        x = x + affine(hidden, f"{block}.mlp.c_proj")
        if add is not None and add[0] == layer:
            x[-1] += add[1]
    return (norm(x, "transformer.ln_f")[-1] @ w["lm_head.weight"].T).log_softmax(-1)


def test_naive_patch_equals_gpt2_written_out_by_hand(gpt2_64: LanguageModel) -> None:
    values = values_of(gpt2_64).double()
    for prompt in prompts_of(gpt2_64, [1, 6]):
        after = NaiveSweep(gpt2_64).patch_heads([prompt], values, all_heads(gpt2_64))[1].logprob[0]
        expected = [
            written_out_gpt2(gpt2_64, prompt.token_ids, patch=(*head, values[head]))[prompt.target]
            for head in all_heads(gpt2_64)
        ]
        torch.testing.assert_close(after, torch.stack(expected), rtol=0, atol=1e-12)


def test_naive_injection_equals_gpt2_written_out_by_hand(gpt2_64: LanguageModel) -> None:
    (prompt,), (vector,) = prompts_of(gpt2_64, [5]), vectors_of(gpt2_64, 1).double()
    before, after = NaiveSweep(gpt2_64).inject([prompt], for_each([prompt], vector[None]), all_cells(gpt2_64))
    assert before.logprob[0] == pytest.approx(
        float(written_out_gpt2(gpt2_64, prompt.token_ids)[prompt.target]), abs=1e-12
    )
    expected = [
        written_out_gpt2(gpt2_64, prompt.token_ids, add=(cell.layer, cell.alpha * vector))[prompt.target]
        for cell in all_cells(gpt2_64)
    ]
    torch.testing.assert_close(after.logprob[0, 0], torch.stack(expected), rtol=0, atol=1e-12)


def test_naive_patch_equals_a_plain_hook_on_llama(tiny_llama: LanguageModel) -> None:
    (prompt,), values = prompts_of(tiny_llama, [9]), values_of(tiny_llama)
    for layer, head in all_heads(tiny_llama):

        def overwrite(_module: Any, args: tuple[Tensor], layer: int = layer, head: int = head) -> None:
            args[0][0, -1, 12 * head : 12 * head + 12] = values[layer, head]

        handle = tiny_llama.model.model.layers[layer].self_attn.o_proj.register_forward_pre_hook(overwrite)
        logits = tiny_llama.model(torch.tensor([prompt.token_ids])).logits[0, -1]
        handle.remove()
        after = NaiveSweep(tiny_llama).patch_heads([prompt], values, [Head(layer, head)])[1].logprob[0, 0]
        assert after == pytest.approx(float(logits.double().log_softmax(-1)[prompt.target]), abs=5e-6)


# The fast sweep, against the naive loop


@few
@given(lengths=lengths_of_prompts, max_rows=st.sampled_from(MAX_ROWS), seed=seeds)
def test_patching_equals_the_naive_loop(tiny_lm: LanguageModel, lengths: list[int], max_rows: int, seed: int) -> None:
    assert_patching_agrees(tiny_lm, prompts_of(tiny_lm, lengths, seed), max_rows, seed)


@few
@given(lengths=lengths_of_prompts, max_rows=st.sampled_from(MAX_ROWS), seed=seeds)
def test_injecting_equals_the_naive_loop(tiny_lm: LanguageModel, lengths: list[int], max_rows: int, seed: int) -> None:
    assert_injecting_agrees(tiny_lm, prompts_of(tiny_lm, lengths, seed), max_rows, seed)


@few
@given(lengths=lengths_of_prompts, max_rows=st.sampled_from(MAX_ROWS), seed=seeds)
def test_unedited_prompts_equal_the_naive_loop(
    tiny_lm: LanguageModel, lengths: list[int], max_rows: int, seed: int
) -> None:
    prompts = prompts_of(tiny_lm, lengths, seed)
    expected_scores, expected_outputs = NaiveSweep(tiny_lm).last_token(prompts)
    scores, outputs = SharedPrefixSweep(tiny_lm, max_rows).last_token(prompts)
    assert_close(scores, expected_scores)
    torch.testing.assert_close(outputs, expected_outputs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("max_rows", MAX_ROWS)
def test_each_prompt_gets_its_own_vectors(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts, cells = prompts_of(tiny_lm, [4, 9, 1, 6]), all_cells(tiny_lm)
    vectors = torch.stack([vectors_of(tiny_lm, 3, seed) for seed in range(4)])
    found = SharedPrefixSweep(tiny_lm, max_rows).inject(prompts, vectors, cells)[1]
    for i, prompt in enumerate(prompts):
        assert_close(found[i : i + 1], NaiveSweep(tiny_lm).inject([prompt], vectors[i : i + 1], cells)[1])


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [1, 6], [8, 1, 3, 1]])
def test_one_token_prompts_have_an_empty_prefix(tiny_lm: LanguageModel, lengths: list[int]) -> None:
    prompts = prompts_of(tiny_lm, lengths)
    assert_patching_agrees(tiny_lm, prompts, 4096)
    assert_injecting_agrees(tiny_lm, prompts, 4096)


def test_float64_gpt2_agrees_to_rounding(gpt2_64: LanguageModel) -> None:
    prompts, values, heads = prompts_of(gpt2_64, [1, 7, 12]), values_of(gpt2_64), all_heads(gpt2_64)
    expected = NaiveSweep(gpt2_64).patch_heads(prompts, values, heads)[1]
    assert_close(SharedPrefixSweep(gpt2_64, 17).patch_heads(prompts, values, heads)[1], expected, 1e-12)
    vectors, cells = vectors_of(gpt2_64), all_cells(gpt2_64)
    expected = NaiveSweep(gpt2_64).inject(prompts, for_each(prompts, vectors), cells)[1]
    assert_close(SharedPrefixSweep(gpt2_64, 17).inject(prompts, for_each(prompts, vectors), cells)[1], expected, 1e-12)


def test_float64_llama_agrees_to_its_own_float32_parts(llama_64: LanguageModel) -> None:
    # Llama rounds to float32 in its norms and in the eager softmax, whatever the dtype of its weights.
    prompts, values, heads = prompts_of(llama_64, [1, 7, 12]), values_of(llama_64), all_heads(llama_64)
    expected = NaiveSweep(llama_64).patch_heads(prompts, values, heads)[1]
    assert_close(SharedPrefixSweep(llama_64, 17).patch_heads(prompts, values, heads)[1], expected, 1e-6)


def test_llama_in_float64_throughout_agrees_to_rounding(
    llama_64: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def eager(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float, **_: Any) -> Any:
        key, value = (part.repeat_interleave(module.num_key_value_groups, 1) for part in (key, value))
        return (((query @ key.mT) * scaling + mask).softmax(-1) @ value).transpose(1, 2), None

    def norm(module: Any, hidden: Tensor) -> Tensor:
        return functional.rms_norm(hidden, hidden.shape[-1:], module.weight, module.variance_epsilon)

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", eager)
    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", norm)
    prompts, values, heads = prompts_of(llama_64, [1, 7, 12]), values_of(llama_64), all_heads(llama_64)
    expected = NaiveSweep(llama_64).patch_heads(prompts, values, heads)[1]
    assert_close(SharedPrefixSweep(llama_64, 17).patch_heads(prompts, values, heads)[1], expected, 1e-12)


REAL_PROMPTS = [
    ("Q: hot\nA: cold\n\nQ: big\nA: small\n\nQ: early\nA: late\n\nQ: open\nA: closed\n\nQ: dark\nA:", " light"),
    ("Q: France\nA: Paris\n\nQ: Japan\nA: Tokyo\n\nQ: Egypt\nA: Cairo\n\nQ: Italy\nA:", " Rome"),
]


@pytest.fixture(scope="module")
def real_prompts(smollm2: LanguageModel) -> list[Prompt]:
    return [
        Prompt(tuple(smollm2.encode(text, False)), smollm2.encode(answer, False)[0]) for text, answer in REAL_PROMPTS
    ]


@pytest.mark.slow
def test_smollm2_patched_by_its_clean_mean_equals_the_naive_loop(
    smollm2: LanguageModel, real_prompts: list[Prompt]
) -> None:
    sweep, naive = SharedPrefixSweep(smollm2, 256), NaiveSweep(smollm2)
    scores, outputs = sweep.last_token(real_prompts)
    expected_scores, expected_outputs = naive.last_token(real_prompts)
    assert_close(scores, expected_scores)
    assert (outputs - expected_outputs).abs().max() <= 1e-5 * expected_outputs.abs().max()
    heads = [Head(layer, (5 * i) % 9) for i, layer in enumerate([0, 1, 3, 7, 10, 13, 16, 19, 22, 25, 28, 29])]
    swapped = real_prompts[::-1]
    for prompt, values in zip(swapped, outputs, strict=True):  # each prompt gets the other one's values
        before, after = sweep.patch_heads([prompt], values, heads)
        naive_before, naive_after = naive.patch_heads([prompt], values, heads)
        assert_close(before, naive_before)
        assert_close(after, naive_after)
        assert (naive_after.logprob - naive_before.logprob).abs().max() > 0.01


@pytest.mark.slow
def test_smollm2_injected_equals_the_naive_loop(smollm2: LanguageModel, real_prompts: list[Prompt]) -> None:
    cells = [Cell(layer, 1.0) for layer in (0, 9, 18, 29)]
    before, after = SharedPrefixSweep(smollm2, 256).inject(
        real_prompts, for_each(real_prompts, vectors_of(smollm2, 1)), cells
    )
    naive_before, naive_after = NaiveSweep(smollm2).inject(
        real_prompts, for_each(real_prompts, vectors_of(smollm2, 1)), cells
    )
    assert_close(before, naive_before)
    assert_close(after, naive_after)
    assert (naive_after.logprob - naive_before.logprob[:, None, None]).abs().max() > 0.01


# How the work is cut up changes nothing


@pytest.mark.parametrize("max_rows", [2, 3, 7, 16, 33])
def test_max_rows_changes_rounding_only(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts = prompts_of(tiny_lm, [4, 1, 11, 7, 7])
    values, vectors = values_of(tiny_lm), vectors_of(tiny_lm, 5)
    small, huge = SharedPrefixSweep(tiny_lm, max_rows), SharedPrefixSweep(tiny_lm, 10**9)
    for found, expected in zip(
        small.patch_heads(prompts, values, all_heads(tiny_lm)),
        huge.patch_heads(prompts, values, all_heads(tiny_lm)),
        strict=True,
    ):
        assert_close(found, expected)
    assert_close(
        small.inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm))[1],
        huge.inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm))[1],
    )


def test_scoring_in_parts_changes_rounding_only(tiny_lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, vectors = prompts_of(tiny_lm, [4, 1, 9, 6]), vectors_of(tiny_lm, 3)
    expected = SharedPrefixSweep(tiny_lm, 4096).inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm))
    monkeypatch.setattr(shared_prefix, "MAX_LOGITS", 6 * tiny_lm.unembedding.weight.shape[0])
    found = SharedPrefixSweep(tiny_lm, 4096).inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm))
    assert_close(found[0], expected[0])
    assert_close(found[1], expected[1])


@few
@given(lengths=st.lists(st.integers(1, 14), min_size=2, max_size=5), seed=seeds, data=st.data())
def test_other_prompts_in_the_batch_do_not_matter(
    tiny_lm: LanguageModel, lengths: list[int], seed: int, data: st.DataObject
) -> None:
    prompts, values, vectors = prompts_of(tiny_lm, lengths, seed), values_of(tiny_lm, seed), vectors_of(tiny_lm)
    i = data.draw(st.integers(0, len(prompts) - 1))
    sweep, heads, cells = SharedPrefixSweep(tiny_lm, 4096), all_heads(tiny_lm), all_cells(tiny_lm)
    assert_close(
        sweep.patch_heads(prompts, values, heads)[1][i : i + 1], sweep.patch_heads([prompts[i]], values, heads)[1]
    )
    assert_close(
        sweep.inject(prompts, for_each(prompts, vectors), cells)[1][i : i + 1],
        sweep.inject([prompts[i]], for_each([prompts[i]], vectors), cells)[1],
    )
    assert_close(sweep.last_token(prompts)[0][i : i + 1], sweep.last_token([prompts[i]])[0])


@few
@given(data=st.data())
def test_some_heads_alone_equal_the_same_heads_of_a_full_sweep(tiny_lm: LanguageModel, data: st.DataObject) -> None:
    heads = all_heads(tiny_lm)
    some = data.draw(st.lists(st.sampled_from(heads), unique=True, min_size=1))
    prompts, values, sweep = prompts_of(tiny_lm, [3, 8]), values_of(tiny_lm), SharedPrefixSweep(tiny_lm, 4096)
    full = sweep.patch_heads(prompts, values, heads)[1]
    columns = [heads.index(head) for head in some]
    assert_close(sweep.patch_heads(prompts, values, some)[1], full[:, columns])


@few
@given(data=st.data(), max_rows=st.sampled_from(MAX_ROWS))
def test_columns_come_in_the_order_asked(tiny_lm: LanguageModel, data: st.DataObject, max_rows: int) -> None:
    heads = all_heads(tiny_lm)
    shuffled = data.draw(st.permutations(heads))
    prompts, values, sweep = prompts_of(tiny_lm, [3, 8]), values_of(tiny_lm), SharedPrefixSweep(tiny_lm, max_rows)
    ordered = sweep.patch_heads(prompts, values, heads)[1]
    columns = [heads.index(head) for head in shuffled]
    assert_bit_equal(sweep.patch_heads(prompts, values, shuffled)[1], ordered[:, columns])


@pytest.mark.parametrize("max_rows", MAX_ROWS)
def test_two_runs_are_bit_equal(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts, values, vectors = prompts_of(tiny_lm, [5, 1, 9]), values_of(tiny_lm), vectors_of(tiny_lm)
    one, two = SharedPrefixSweep(tiny_lm, max_rows), SharedPrefixSweep(tiny_lm, max_rows)
    for found, expected in zip(
        [
            *one.patch_heads(prompts, values, all_heads(tiny_lm)),
            *one.inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm)),
        ],
        [
            *two.patch_heads(prompts, values, all_heads(tiny_lm)),
            *two.inject(prompts, for_each(prompts, vectors), all_cells(tiny_lm)),
        ],
        strict=True,
    ):
        assert_bit_equal(found, expected)


@few
@given(data=st.data(), max_rows=st.sampled_from(MAX_ROWS), lengths=lengths_of_prompts)
def test_one_cell_is_bit_equal_to_the_same_cell_of_a_grid(
    tiny_lm: LanguageModel, data: st.DataObject, max_rows: int, lengths: list[int]
) -> None:
    # A gathered multirun writes the same bytes as one job because of this.
    cells = all_cells(tiny_lm, (-2.0, 0.3, 1.0))
    some = data.draw(st.lists(st.sampled_from(cells), unique=True, min_size=1, max_size=3))
    prompts, vectors = prompts_of(tiny_lm, lengths), vectors_of(tiny_lm, 3)
    sweep = SharedPrefixSweep(tiny_lm, max_rows)
    grid_before, grid_after = sweep.inject(prompts, for_each(prompts, vectors), cells)
    before, after = sweep.inject(prompts, for_each(prompts, vectors), some)
    assert_bit_equal(before, grid_before)
    assert_bit_equal(after, grid_after[:, :, [cells.index(cell) for cell in some]])


@pytest.mark.parametrize("engine", ["naive", "shared_prefix"])
def test_progress_counts_every_prompt_and_every_row(tiny_llama: LanguageModel, engine: str) -> None:
    done: list[int] = []
    sweep, prompts = make_sweep(tiny_llama, engine, 16), prompts_of(tiny_llama, [4, 2, 5])
    sweep.patch_heads(prompts, values_of(tiny_llama), [Head(0, 1), Head(2, 3)], done.append)
    assert sum(done) == 3
    done.clear()
    sweep.inject(prompts, for_each(prompts, vectors_of(tiny_llama, 2)), all_cells(tiny_llama), done.append)
    assert sum(done) == 3 * 2 * 6


# What an edit must and must not do


def without_head(lm: LanguageModel, head: Head) -> LanguageModel:
    """A copy of the model that ignores one head: its columns of W_O are zero."""
    copy = replace(lm, model=deepcopy(lm.model))
    with torch.no_grad():
        copy.out_weight(head.layer)[:, copy.head_slice(head.head)] = 0
    return copy


DEAD = [Head(0, 0), Head(1, 3), Head(2, 1)]


@pytest.mark.parametrize("dead", DEAD)
def test_zeroed_head_has_no_effect(tiny_lm: LanguageModel, dead: Head) -> None:
    copy, heads = without_head(tiny_lm, dead), all_heads(tiny_lm)
    prompts, values = prompts_of(tiny_lm, [9, 1, 5, 9]), values_of(tiny_lm)
    for sweep in (NaiveSweep(copy), *(SharedPrefixSweep(copy, max_rows) for max_rows in (2, 3, 8, 4096))):
        before, after = sweep.patch_heads(prompts, values, heads)
        largest = (after.logprob - before.logprob).abs().amax(0)
        assert largest[heads.index(dead)] < TOLERANCE
        assert (largest > 1e-3).sum() == len(heads) - 1  # every other head acts


@pytest.mark.parametrize("dead", DEAD)
def test_zeroed_head_has_exactly_no_effect_in_the_naive_loop(tiny_lm: LanguageModel, dead: Head) -> None:
    copy = without_head(tiny_lm, dead)
    before, after = NaiveSweep(copy).patch_heads(prompts_of(tiny_lm, [9, 1, 5, 9]), values_of(tiny_lm), [dead])
    assert_bit_equal(after, before)


@pytest.mark.parametrize("max_rows", [2, 8, 4096])
def test_zeroed_head_has_exactly_no_effect_in_the_fast_sweep(tiny_lm: LanguageModel, max_rows: int) -> None:
    heads = all_heads(tiny_lm)
    for dead in DEAD:
        copy = without_head(tiny_lm, dead)
        for lengths in ([5], [1, 7], [3, 8, 2], [9, 9, 9, 9]):
            prompts, values = prompts_of(tiny_lm, lengths), values_of(tiny_lm)
            before, after = SharedPrefixSweep(copy, max_rows).patch_heads(prompts, values, heads)
            assert_bit_equal(after[:, heads.index(dead)], before[:, heads.index(dead)])


@pytest.mark.parametrize("max_rows", [3, 4096])
def test_patching_a_head_with_its_own_value_has_no_effect(tiny_lm: LanguageModel, max_rows: int) -> None:
    sweep = SharedPrefixSweep(tiny_lm, max_rows)
    for prompt in prompts_of(tiny_lm, [1, 4, 10]):
        own = NaiveSweep(tiny_lm).last_token([prompt])[1][0]
        before, after = sweep.patch_heads([prompt], own, all_heads(tiny_lm))
        assert (after.logprob - before.logprob).abs().max() < TOLERANCE


@pytest.mark.parametrize("max_rows", [2, 4096])
def test_alpha_zero_has_no_effect(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts = prompts_of(tiny_lm, [1, 4, 10])
    before, after = SharedPrefixSweep(tiny_lm, max_rows).inject(
        prompts, for_each(prompts, vectors_of(tiny_lm, 3)), all_cells(tiny_lm, (0.0,))
    )
    assert (after.logprob - before.logprob[:, None, None]).abs().max() < TOLERANCE


def test_injecting_behind_the_last_block_adds_to_what_the_final_norm_reads(tiny_lm: LanguageModel) -> None:
    (prompt,), (vector,) = prompts_of(tiny_lm, [6]), vectors_of(tiny_lm, 1)
    last: list[Tensor] = []
    handle = tiny_lm.blocks[-1].register_forward_hook(lambda _module, _args, output: last.append(output[0, -1]))
    tiny_lm.model(torch.tensor([prompt.token_ids]))
    handle.remove()
    logits = tiny_lm.unembedding(tiny_lm.final_norm(last[0] + 1.7 * vector))
    after = SharedPrefixSweep(tiny_lm, 64).inject(
        [prompt], for_each([prompt], vector[None]), [Cell(tiny_lm.n_layers - 1, 1.7)]
    )[1]
    assert float(after.logprob) == pytest.approx(float(logits.double().log_softmax(-1)[prompt.target]), abs=5e-6)


# What is left behind


@pytest.fixture
def plain_forward(tiny_lm: LanguageModel) -> Iterator[None]:
    """After the test the model runs as it did before it: same attention, no hooks, same bits."""
    ids = torch.tensor([prompts_of(tiny_lm, [8])[0].token_ids])
    logits = tiny_lm.model(ids).logits
    yield
    assert tiny_lm.model.config._attn_implementation == "eager"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tiny_lm.model.modules())
    assert torch.equal(tiny_lm.model(ids).logits, logits)


@pytest.mark.usefixtures("plain_forward")
def test_a_sweep_leaves_the_model_as_it_was(tiny_lm: LanguageModel) -> None:
    sweep, prompts = SharedPrefixSweep(tiny_lm, 64), prompts_of(tiny_lm, [4, 2])
    sweep.last_token(prompts)
    sweep.patch_heads(prompts, values_of(tiny_lm), all_heads(tiny_lm))
    sweep.inject(prompts, for_each(prompts, vectors_of(tiny_lm)), all_cells(tiny_lm))


@pytest.mark.usefixtures("plain_forward")
def test_an_error_in_the_prefix_leaves_the_model_as_it_was(tiny_lm: LanguageModel) -> None:
    with pytest.raises(IndexError):
        SharedPrefixSweep(tiny_lm, 64).last_token([Prompt((10**7, 3, 4), 0)])


@pytest.mark.usefixtures("plain_forward")
def test_an_error_among_the_rows_leaves_the_model_as_it_was(tiny_lm: LanguageModel) -> None:
    too_wide = torch.zeros(tiny_lm.n_layers, tiny_lm.n_heads, tiny_lm.head_dim + 1)
    with pytest.raises(RuntimeError):
        SharedPrefixSweep(tiny_lm, 64).patch_heads(prompts_of(tiny_lm, [4]), too_wide, all_heads(tiny_lm))


# What is refused


@pytest.mark.parametrize("name", ["sliding_window", "softcap", "s_aux", "position_bias"])
def test_attention_that_is_more_than_a_softmax_is_refused(tiny_llama: LanguageModel, name: str) -> None:
    cache = prefix_attention.PrefixCache(is_pad=torch.zeros(1, 3, dtype=torch.bool), stop_after=2)
    heads = torch.zeros(1, 2, 3, 12)
    with pytest.raises(ModelError, match=name):
        shared_prefix_attention(
            tiny_llama.blocks[0].self_attn, heads, heads, heads, None, fv_prefix=cache, **{name: 4.0}
        )


def test_a_model_with_a_sliding_window_is_refused() -> None:
    config = MistralConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_window=3,
        attn_implementation="eager",
    )
    lm = LanguageModel(MistralForCausalLM(config).eval(), None, find_spec("llama"), "mistral", {})
    with pytest.raises(ModelError, match=r"MistralAttention.*sliding_window"):
        SharedPrefixSweep(lm, 64).last_token([Prompt((1, 2, 3, 4, 5), 6)])


def test_the_shared_attention_without_its_cache_is_refused(tiny_lm: LanguageModel) -> None:
    with prefix_attention.shared_prefix_mode(tiny_lm), pytest.raises(ModelError, match="cache"):
        tiny_lm.model(torch.tensor([[1, 2, 3]]))


def test_the_spec_decides_which_engine_auto_is(tiny_llama: LanguageModel) -> None:
    alone = replace(tiny_llama, spec=replace(tiny_llama.spec, shared_prefix=False))
    assert isinstance(make_sweep(tiny_llama, "auto", 64), SharedPrefixSweep)
    assert isinstance(make_sweep(tiny_llama, "naive", 64), NaiveSweep)
    assert isinstance(make_sweep(alone, "auto", 64), NaiveSweep)
    with pytest.raises(ConfigError, match=r"compute\.sweep=shared_prefix.*model\.spec=llama.*compute\.sweep=naive"):
        make_sweep(alone, "shared_prefix", 64)


# Scores


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(1, 6), width=st.integers(1, 40), scale=st.sampled_from([0.01, 1.0, 30.0]), seed=seeds)
def test_scores_are_those_of_a_softmax(rows: int, width: int, scale: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(rows, width, generator=rng)
    targets = torch.randint(0, width, (rows,), generator=rng)
    scores = TargetScores.of_logits(logits, targets)
    for i, target in enumerate(targets.tolist()):
        assert float(scores.logprob[i]) == pytest.approx(float(logits[i].double().log_softmax(0)[target]), abs=2e-5)
        assert float(scores.p[i]) == pytest.approx(float(logits[i].double().softmax(0)[target]), abs=2e-5)
        assert bool(scores.correct[i]) == (int(logits[i].argmax()) == target)
        assert logits[i].argsort(descending=True)[scores.rank[i]] == target


def test_a_target_tied_for_the_top_counts_as_right() -> None:
    scores = TargetScores.of_logits(torch.tensor([[1.0, 3.0, 3.0, 0.0]]), torch.tensor([2]))
    assert scores.correct.tolist() == [True]


def test_joined_scores_keep_their_order() -> None:
    parts = [TargetScores(torch.tensor([-1.0 * i, -2.0 * i]), torch.tensor([i, 2 * i])) for i in range(3)]
    joined = TargetScores.cat(parts).reshape(3, 2)
    assert joined[1].logprob.tolist() == [-1.0, -2.0]
    assert joined[:, 1].rank.tolist() == [0, 2, 4]
