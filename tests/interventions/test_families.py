"""Every family of the registry: proved right as declared, exact in its fast engine, and refused when declared wrong."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from families import FAMILIES, tiny
from sweep_checks import (
    KeepFloat64,
    all_cells,
    all_heads,
    assert_close,
    assert_last_tokens_close,
    assert_patches_close,
    for_each,
    prompts_of,
    values_of,
    vectors_of,
)
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fv.errors import ModelError
from fv.interventions.engine import Head
from fv.interventions.engines import make_engine
from fv.interventions.expanded_batch import ExpandedBatchEngine
from fv.interventions.naive import NaiveEngine
from fv.interventions.selfcheck import selfcheck
from fv.models.language_model import LanguageModel
from fv.models.spec import SPECS, FastEngine
from fv.vectors.function_vector import vector_of_heads

POST_NORM = [spec.name for spec in SPECS if spec.post_norm]
EXPANDED = [spec.name for spec in SPECS if spec.sweep is FastEngine.expanded]


def declared(lm: LanguageModel, **spec: Any) -> LanguageModel:
    """The model under another declaration."""
    return replace(lm, spec=replace(lm.spec, **spec))


def assert_engine_agrees(lm: LanguageModel, engine: str, tolerance: float) -> None:
    fast, naive = make_engine(lm, engine, 40), NaiveEngine(lm)
    prompts, values, heads = prompts_of(lm, [1, 7, 12, 12]), values_of(lm), all_heads(lm)
    expected = naive.patch_heads(prompts, values, heads)
    assert_patches_close(fast.patch_heads(prompts, values, heads), expected, tolerance)
    assert (expected.patched - expected.unpatched).abs().max() > 0.01
    vectors, cells = for_each(prompts, vectors_of(lm)), all_cells(lm)
    for found, due in zip(fast.inject(prompts, vectors, cells), naive.inject(prompts, vectors, cells), strict=True):
        assert_close(found, due, tolerance)
    assert_last_tokens_close(fast.last_token(prompts), naive.last_token(prompts), tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_passes_its_selfcheck(family: str) -> None:
    report = selfcheck(tiny(family))
    assert report["sweep_vs_naive"] < 2e-5
    assert max(report["sum_of_heads_error"].values()) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ["auto", "expanded"])
def test_the_fast_sweeps_equal_the_naive_loop(family: str, engine: str) -> None:
    assert_engine_agrees(tiny(family), engine, 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_in_float64_the_fast_sweep_equals_the_naive_loop_to_rounding(family: str) -> None:
    with KeepFloat64():
        assert_engine_agrees(tiny(family, torch.float64), "auto", 1e-9)


@pytest.mark.parametrize(
    ("family", "changes"),
    [
        ("gpt_neox", {"use_parallel_residual": False}),
        ("falcon", {"new_decoder_architecture": False, "parallel_attn": False, "alibi": True}),
        ("falcon", {"new_decoder_architecture": False, "multi_query": True}),
        ("stablelm", {"use_parallel_residual": True}),
        ("bloom", {"apply_residual_connection_post_layernorm": True}),
        ("qwen2", {"tie_word_embeddings": True}),
    ],
)
def test_variants_of_a_family_pass_its_selfcheck(family: str, changes: dict[str, Any]) -> None:
    assert selfcheck(tiny(family, **changes))["sweep_vs_naive"] < 2e-5


@pytest.mark.parametrize("family", ["llama", "gemma2", "mixtral", "gpt_neo"])
def test_bfloat16_passes_the_selfcheck(family: str) -> None:
    assert selfcheck(tiny(family, torch.bfloat16))["identity_bit_equal"]


# Declared wrong


@pytest.mark.parametrize("family", FAMILIES)
def test_every_other_projection_of_the_block_is_refused(family: str) -> None:
    lm = tiny(family)
    others = [
        name
        for name, module in lm.blocks[0].named_modules()
        if isinstance(module, nn.Linear | Conv1D) and name != lm.spec.out_proj
    ]
    assert others
    for name in others:
        with pytest.raises(ModelError):
            selfcheck(declared(lm, out_proj=name))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_kind_of_block_output_is_refused(family: str) -> None:
    lm = tiny(family)
    with pytest.raises(ModelError, match=r"returned (tuple|Tensor), where"):
        selfcheck(declared(lm, tuple_output=not lm.spec.tuple_output))


@pytest.mark.parametrize("family", [family for family in FAMILIES if family.values[0] not in POST_NORM])
def test_a_parallel_block_declared_sequential_is_refused_and_the_reverse(family: str) -> None:
    lm = tiny(family)
    with pytest.raises(ModelError, match=r"it is not (parallel|sequential)"):
        selfcheck(declared(lm, parallel=not lm.parallel))


@pytest.mark.parametrize("family", EXPANDED)
def test_shared_prefixes_are_refused_where_they_are_wrong(family: str) -> None:
    # GPT-Neo and MPT would be silently wrong with rows as extra positions.
    with pytest.raises(ModelError):
        selfcheck(declared(tiny(family), sweep=FastEngine.shared_prefix))


@pytest.mark.parametrize("family", FAMILIES)
def test_another_final_norm_is_refused(family: str) -> None:
    lm = tiny(family)
    norm = next(
        name for name, module in lm.blocks[1].named_modules() if "norm" in name.lower() or name.startswith("ln")
    )
    with pytest.raises(ModelError):
        selfcheck(declared(lm, final_norm=f"{lm.spec.blocks}.1.{norm}"))


@pytest.mark.parametrize(
    ("family", "forgotten"),
    [
        ("cohere", "logit_multiplier"),
        ("granite", "logit_divisor"),
        ("gemma2", "logit_softcap"),
        ("gemma3_text", "logit_softcap"),
    ],
)
def test_forgetting_how_logits_are_scaled_is_refused(family: str, forgotten: str) -> None:
    with pytest.raises(ModelError, match="logits made from it"):
        selfcheck(declared(tiny(family), **{forgotten: ""}))


def test_transposing_a_square_projection_is_refused() -> None:
    for family in ("gpt2", "opt"):
        lm = tiny(family)
        with pytest.raises(ModelError, match="the heads' sum"):
            selfcheck(declared(lm, conv1d=not lm.spec.conv1d))


def test_blocks_that_are_no_list_are_refused() -> None:
    with pytest.raises(ModelError, match="needs a list of blocks"):
        selfcheck(declared(tiny("llama"), blocks="model.norm"))


# What heads add to the residual stream


def residual_before_and_after_attention(lm: LanguageModel, layer: int, values: Tensor, between: str) -> Tensor:
    """What a block adds to its input by attention, (d_model,), when the head outputs are `values`."""
    reads: list[Tensor] = []

    def patch(_module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (values.flatten().expand_as(args[0]),)

    handles = [
        lm.out_projs[layer].register_forward_pre_hook(patch),
        lm.blocks[layer].register_forward_pre_hook(lambda _m, args: reads.append(args[0][0, -1])),
        lm.blocks[layer]
        .get_submodule(between)
        .register_forward_pre_hook(lambda _m, args: reads.append(args[0][0, -1])),
    ]
    lm.model(torch.tensor([[5, 9, 40, 7]]), use_cache=False)
    for handle in handles:
        handle.remove()
    return reads[1] - reads[0]


@pytest.mark.parametrize(
    ("family", "between"),
    [
        ("llama", "post_attention_layernorm"),
        ("granite", "post_attention_layernorm"),
        ("gemma2", "pre_feedforward_layernorm"),
        ("gemma3_text", "pre_feedforward_layernorm"),
        ("olmo2", "mlp"),
    ],
)
def test_all_heads_and_the_bias_add_to_the_residual_what_the_block_adds(family: str, between: str) -> None:
    lm = tiny(family)
    for layer in range(lm.n_layers):
        values = values_of(lm, seed=layer)[layer]
        heads = [Head(layer, head) for head in range(lm.n_heads)]
        mean = torch.zeros(lm.n_layers, lm.n_heads, lm.head_dim)
        mean[layer] = values
        vector = vector_of_heads(lm, mean, heads).double()
        bias = lm.out_bias(layer)
        if lm.spec.post_norm:
            bias = bias * lm.norm_gain(layer, lm.projected(layer, values))
        added = residual_before_and_after_attention(lm, layer, values, between).double()
        torch.testing.assert_close(vector + bias, added, rtol=0, atol=2e-5)


# The expanded engine


@pytest.mark.parametrize("max_rows", [2, 13, 50, 4096])
def test_max_rows_changes_the_expanded_sweep_by_rounding_only(max_rows: int) -> None:
    lm = tiny("gpt_neo")
    prompts, values, heads = prompts_of(lm, [9, 1, 4]), values_of(lm), all_heads(lm)[::-1]
    expected = NaiveEngine(lm).patch_heads(prompts, values, heads)
    assert_patches_close(ExpandedBatchEngine(lm, max_rows).patch_heads(prompts, values, heads), expected)


def test_one_cell_of_the_expanded_sweep_is_bit_equal_to_the_same_cell_of_a_grid() -> None:
    lm = tiny("bloom")
    prompts, cells = prompts_of(lm, [9, 1, 4]), all_cells(lm)
    vectors, engine = for_each(prompts, vectors_of(lm)), ExpandedBatchEngine(lm, 64)
    grid = engine.inject(prompts, vectors, cells)[1]
    for i, cell in enumerate(cells):
        assert torch.equal(engine.inject(prompts, vectors, [cell])[1].logprob[..., 0], grid.logprob[..., i])


@pytest.mark.parametrize("family", FAMILIES)
def test_another_module_of_a_block_is_refused_as_its_mlp(family: str) -> None:
    lm = tiny(family)
    if not lm.spec.mlp:
        pytest.skip("its MLP has no module of its own")
    others = [name for name, module in lm.blocks[0].named_modules() if not returns_mlp(lm, name, module)]
    assert lm.spec.out_proj in others and len(others) > 3
    for name in others:
        with pytest.raises(ModelError):
            selfcheck(declared(lm, mlp=name))


def returns_mlp(lm: LanguageModel, name: str, module: nn.Module) -> bool:
    """True if a module may well return the MLP's output: what it is in, its last projection, and what follows it."""
    path, width = lm.spec.mlp, getattr(module, "out_features", getattr(module, "nf", 0))
    inside = name.startswith(f"{path}.") and width in (0, lm.d_model)
    return inside or path.startswith(name) or "dropout" in name or "post_feedforward" in name
