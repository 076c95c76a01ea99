"""What an engine's edits must and must not do, what it leaves behind, and what it refuses."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from sweep_checks import TOLERANCE, all_cells, all_heads, assert_close, for_each, prompts_of, values_of, vectors_of
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM

from fv.errors import ConfigError, EngineError, ModelError
from fv.interventions import prefix_attention
from fv.interventions.engine import Cell, Engine, Head
from fv.interventions.engines import make_engine
from fv.interventions.expanded_batch import ExpandedBatchEngine
from fv.interventions.naive import NaiveEngine
from fv.interventions.prefix_attention import shared_prefix_attention
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.models.spec import FastEngine, find_spec

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
    engines: list[Engine] = [NaiveEngine(copy), *(SharedPrefixEngine(copy, max_rows) for max_rows in (2, 3, 8, 4096))]
    for engine in engines:
        scores = engine.patch_heads(prompts, values, heads)
        largest = (scores.patched - scores.unpatched).abs().amax(0)
        assert largest[heads.index(dead)] < TOLERANCE
        assert (largest > 1e-3).sum() == len(heads) - 1  # every other head acts


@pytest.mark.parametrize("dead", DEAD)
def test_zeroed_head_has_exactly_no_effect_in_the_naive_loop(tiny_lm: LanguageModel, dead: Head) -> None:
    copy = without_head(tiny_lm, dead)
    scores = NaiveEngine(copy).patch_heads(prompts_of(tiny_lm, [9, 1, 5, 9]), values_of(tiny_lm), [dead])
    assert torch.equal(scores.patched, scores.unpatched)


@pytest.mark.parametrize("max_rows", [2, 8, 4096])
def test_zeroed_head_has_exactly_no_effect_in_the_fast_sweep(tiny_lm: LanguageModel, max_rows: int) -> None:
    heads = all_heads(tiny_lm)
    for dead in DEAD:
        copy = without_head(tiny_lm, dead)
        for lengths in ([5], [1, 7], [3, 8, 2], [9, 9, 9, 9]):
            prompts, values = prompts_of(tiny_lm, lengths), values_of(tiny_lm)
            scores = SharedPrefixEngine(copy, max_rows).patch_heads(prompts, values, heads)
            assert torch.equal(scores.patched[:, heads.index(dead)], scores.unpatched[:, heads.index(dead)])


@pytest.mark.parametrize("max_rows", [3, 4096])
def test_patching_a_head_with_its_own_value_has_no_effect(tiny_lm: LanguageModel, max_rows: int) -> None:
    engine = SharedPrefixEngine(tiny_lm, max_rows)
    for prompt in prompts_of(tiny_lm, [1, 4, 10]):
        own = NaiveEngine(tiny_lm).last_token([prompt]).head_outputs[0]
        scores = engine.patch_heads([prompt], own, all_heads(tiny_lm))
        assert (scores.patched - scores.unpatched).abs().max() < TOLERANCE


@pytest.mark.parametrize("max_rows", [2, 4096])
def test_alpha_zero_has_no_effect(tiny_lm: LanguageModel, max_rows: int) -> None:
    prompts = prompts_of(tiny_lm, [1, 4, 10])
    before, after = SharedPrefixEngine(tiny_lm, max_rows).inject(
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
    after = SharedPrefixEngine(tiny_lm, 64).inject(
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
    assert not any("forward" in vars(module) for module in tiny_lm.model.modules())
    assert torch.equal(tiny_lm.model(ids).logits, logits)


@pytest.mark.usefixtures("plain_forward")
def test_a_sweep_leaves_the_model_as_it_was(tiny_lm: LanguageModel) -> None:
    engine, prompts = SharedPrefixEngine(tiny_lm, 64), prompts_of(tiny_lm, [4, 2])
    engine.last_token(prompts)
    engine.patch_heads(prompts, values_of(tiny_lm), all_heads(tiny_lm))
    engine.inject(prompts, for_each(prompts, vectors_of(tiny_lm)), all_cells(tiny_lm))


@pytest.mark.usefixtures("plain_forward")
def test_an_error_in_the_prefix_leaves_the_model_as_it_was(tiny_lm: LanguageModel) -> None:
    with pytest.raises(IndexError):
        SharedPrefixEngine(tiny_lm, 64).last_token([Prompt((10**7, 3, 4), (0,))])


@pytest.mark.usefixtures("plain_forward")
def test_an_error_among_the_rows_leaves_the_model_as_it_was(tiny_lm: LanguageModel) -> None:
    too_wide = torch.zeros(tiny_lm.n_layers, tiny_lm.n_heads, tiny_lm.head_dim + 1)
    with pytest.raises(RuntimeError):
        SharedPrefixEngine(tiny_lm, 64).patch_heads(prompts_of(tiny_lm, [4]), too_wide, all_heads(tiny_lm))


# What is refused


@pytest.mark.parametrize("name", ["softcap", "s_aux", "position_bias"])
def test_attention_that_is_more_than_a_softmax_is_refused(tiny_llama: LanguageModel, name: str) -> None:
    cache = prefix_attention.PrefixCache(lengths=torch.tensor([3]), stop_after=2)
    heads = torch.zeros(1, 2, 3, 12)
    with pytest.raises(ModelError, match=name):
        shared_prefix_attention(tiny_llama.blocks[0], heads, heads, heads, None, fv_prefix=cache, **{name: 4.0})


def test_a_prompt_longer_than_a_sliding_window_is_refused() -> None:
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
    said = r"Layer 0 of mistral, in a prompt of 5 tokens, hides .*\(2 from the last one\).*the expanded one does not"
    with pytest.raises(EngineError, match=said):
        SharedPrefixEngine(lm, 64).last_token([Prompt((1, 2, 3, 4, 5), (6,))])
    short = [Prompt((1, 2, 3), (6,)), Prompt((4, 2), (6,))]
    assert_close(SharedPrefixEngine(lm, 64).last_token(short).scores, NaiveEngine(lm).last_token(short).scores)


def test_the_shared_attention_without_its_cache_is_refused(tiny_lm: LanguageModel) -> None:
    with prefix_attention.shared_prefix_mode(tiny_lm), pytest.raises(ModelError, match="cache"):
        tiny_lm.model(torch.tensor([[1, 2, 3]]))


def test_the_spec_decides_which_engine_auto_is(tiny_llama: LanguageModel) -> None:
    alone = replace(tiny_llama, spec=replace(tiny_llama.spec, sweep=FastEngine.expanded))
    assert isinstance(make_engine(tiny_llama, "auto", 64).engine, SharedPrefixEngine)
    assert isinstance(make_engine(tiny_llama, "naive", 64).engine, NaiveEngine)
    assert isinstance(make_engine(alone, "auto", 64).engine, ExpandedBatchEngine)
    with pytest.raises(ConfigError, match=r"^mode=shared_prefix.*spec llama\. Use mode=expanded or naive"):
        make_engine(alone, "shared_prefix", 64)
