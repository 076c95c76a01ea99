"""The fast engine against the naive loop, and the naive loop against a forward pass written out by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import load_local
from hypothesis import given
from hypothesis import strategies as st
from sweep_checks import (
    MAX_ROWS,
    KeepFloat64,
    all_cells,
    all_heads,
    assert_close,
    assert_injecting_agrees,
    assert_last_tokens_close,
    assert_patches_close,
    assert_patching_agrees,
    few,
    for_each,
    lengths_of_prompts,
    prompts_of,
    seeds,
    values_of,
    vectors_of,
)
from torch import Tensor
from torch.nn import functional

from fv.config import ComputeConfig, Dtype
from fv.interventions.engine import Cell, Head
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt

# The naive loop, against code that shares nothing with it


@pytest.fixture(scope="module")
def gpt2_64(tiny_gpt2_folder: Path) -> LanguageModel:
    return load_local(tiny_gpt2_folder, ComputeConfig(dtype=Dtype.fp64))


@pytest.fixture(scope="module")
def llama_64(tiny_llama_folder: Path) -> LanguageModel:
    return load_local(tiny_llama_folder, ComputeConfig(dtype=Dtype.fp64))


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
        after = NaiveEngine(gpt2_64).patch_heads([prompt], values, all_heads(gpt2_64)).patched[0]
        expected = [
            written_out_gpt2(gpt2_64, prompt.token_ids, patch=(*head, values[head]))[prompt.target]
            for head in all_heads(gpt2_64)
        ]
        torch.testing.assert_close(after, torch.stack(expected), rtol=0, atol=1e-12)


def test_naive_injection_equals_gpt2_written_out_by_hand(gpt2_64: LanguageModel) -> None:
    (prompt,), (vector,) = prompts_of(gpt2_64, [5]), vectors_of(gpt2_64, 1).double()
    before, after = NaiveEngine(gpt2_64).inject([prompt], for_each([prompt], vector[None]), all_cells(gpt2_64))
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
        after = NaiveEngine(tiny_llama).patch_heads([prompt], values, [Head(layer, head)]).patched[0, 0]
        assert after == pytest.approx(float(logits.double().log_softmax(-1)[prompt.target]), abs=5e-6)


# The fast engine, against the naive loop


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
    found = SharedPrefixEngine(tiny_lm, max_rows).last_token(prompts)
    assert_last_tokens_close(found, NaiveEngine(tiny_lm).last_token(prompts))


@pytest.mark.parametrize("max_rows", MAX_ROWS)
def test_each_prompt_gets_its_own_vectors(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts, cells = prompts_of(tiny_lm, [4, 9, 1, 6]), all_cells(tiny_lm)
    vectors = torch.stack([vectors_of(tiny_lm, 3, seed) for seed in range(4)])
    found = SharedPrefixEngine(tiny_lm, max_rows).inject(prompts, vectors, cells)[1]
    for i, prompt in enumerate(prompts):
        assert_close(found[i : i + 1], NaiveEngine(tiny_lm).inject([prompt], vectors[i : i + 1], cells)[1])


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [1, 6], [8, 1, 3, 1]])
def test_one_token_prompts_have_an_empty_prefix(tiny_lm: LanguageModel, lengths: list[int]) -> None:
    prompts = prompts_of(tiny_lm, lengths)
    assert_patching_agrees(tiny_lm, prompts, 4096)
    assert_injecting_agrees(tiny_lm, prompts, 4096)


@pytest.mark.slow
@pytest.mark.parametrize("max_rows", [2, 17, 4096])
@pytest.mark.parametrize("family", ["gpt2_64", "llama_64"])
def test_in_float64_both_engines_agree_to_rounding(request: pytest.FixtureRequest, family: str, max_rows: int) -> None:
    lm = request.getfixturevalue(family)
    with KeepFloat64():
        assert_patching_agrees(lm, prompts_of(lm, [1, 7, 12, 12]), max_rows, tolerance=1e-11)
        assert_injecting_agrees(lm, prompts_of(lm, [1, 7, 12, 12]), max_rows, tolerance=1e-11)


REAL_PROMPTS = [
    ("Q: hot\nA: cold\n\nQ: big\nA: small\n\nQ: early\nA: late\n\nQ: open\nA: closed\n\nQ: dark\nA:", " light"),
    ("Q: France\nA: Paris\n\nQ: Japan\nA: Tokyo\n\nQ: Egypt\nA: Cairo\n\nQ: Italy\nA:", " Rome"),
]


@pytest.fixture(scope="module")
def real_prompts(smollm2: LanguageModel) -> list[Prompt]:
    return [
        Prompt(tuple(smollm2.encode(text, False)), tuple(smollm2.encode(answer, False)))
        for text, answer in REAL_PROMPTS
    ]


@pytest.mark.slow
def test_smollm2_patched_by_its_clean_mean_equals_the_naive_loop(
    smollm2: LanguageModel, real_prompts: list[Prompt]
) -> None:
    engine, naive = SharedPrefixEngine(smollm2, 256), NaiveEngine(smollm2)
    found, due = engine.last_token(real_prompts), naive.last_token(real_prompts)
    assert_close(found.scores, due.scores)
    for values, expected in ((found.head_outputs, due.head_outputs), (found.residual, due.residual)):
        assert (values - expected).abs().max() <= 1e-5 * expected.abs().max()
    heads = [Head(layer, (5 * i) % 9) for i, layer in enumerate([0, 1, 3, 7, 10, 13, 16, 19, 22, 25, 28, 29])]
    swapped = real_prompts[::-1]
    for prompt, values in zip(swapped, found.head_outputs, strict=True):  # each prompt gets the other one's values
        patched = naive.patch_heads([prompt], values, heads)
        assert_patches_close(engine.patch_heads([prompt], values, heads), patched)
        assert (patched.patched - patched.unpatched).abs().max() > 0.01


@pytest.mark.slow
def test_smollm2_injected_equals_the_naive_loop(smollm2: LanguageModel, real_prompts: list[Prompt]) -> None:
    cells = [Cell(layer, 1.0) for layer in (0, 9, 18, 29)]
    before, after = SharedPrefixEngine(smollm2, 256).inject(
        real_prompts, for_each(real_prompts, vectors_of(smollm2, 1)), cells
    )
    naive_before, naive_after = NaiveEngine(smollm2).inject(
        real_prompts, for_each(real_prompts, vectors_of(smollm2, 1)), cells
    )
    assert_close(before, naive_before)
    assert_close(after, naive_after)
    assert (naive_after.logprob - naive_before.logprob[:, None, None]).abs().max() > 0.01
