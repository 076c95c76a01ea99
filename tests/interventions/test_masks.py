"""Engines look at a model's masks, and at load past its windows and chunks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from families import tiny
from sweep_checks import TOLERANCE, all_heads, prompts_of, values_of
from transformers import AutoModelForCausalLM, Llama4TextConfig
from transformers.models.llama import modeling_llama

from fv.errors import EngineError, SpecError
from fv.interventions.engines import make_engine
from fv.interventions.selfcheck import selfcheck
from fv.interventions.selfcheck_limits import spans_of
from fv.models.language_model import LanguageModel
from fv.models.spec import FastEngine, find_spec

CHUNK = 8


def chunked(sweep: FastEngine = FastEngine.shared_prefix, **changes: Any) -> LanguageModel:
    """A random Llama-4 text model whose layers attend within chunks of 8 tokens, taken for a Llama."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": 97,
        "hidden_size": 40,
        "intermediate_size": 64,
        "intermediate_size_mlp": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "num_local_experts": 2,
        "moe_layers": [],
        "attention_chunk_size": CHUNK,
        "max_position_embeddings": 64,
        "attn_temperature_tuning": False,
        "initializer_range": 0.15,
        "pad_token_id": 0,
    }
    config = Llama4TextConfig(**{**settings, **changes})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().requires_grad_(False)
    return LanguageModel(model, None, replace(find_spec("llama"), sweep=sweep), "chunked", {})


def test_a_chunked_model_is_refused_on_a_prompt_longer_than_a_chunk_and_exact_on_a_shorter_one() -> None:
    lm = chunked()
    values, heads = values_of(lm), all_heads(lm)[:5]
    fast, naive = make_engine(lm, "shared_prefix", 64), make_engine(lm, "naive", 64)
    short = prompts_of(lm, [5, CHUNK])
    found, due = (engine.patch_heads(short, values, heads).patched for engine in (fast, naive))
    torch.testing.assert_close(found, due, rtol=0, atol=TOLERANCE)
    long = prompts_of(lm, [CHUNK + 3, 4])
    for ask in (
        lambda: fast.patch_heads(long, values, heads),
        lambda: fast.answers([prompt._replace(answer=(5, 6)) for prompt in short], [None]),  # with its answer
        lambda: fast.head_scores(long, values, "gradient", 2),
    ):
        with pytest.raises(EngineError, match=r"Layer \d of chunked, in a prompt of \d+ tokens, hides earlier tokens"):
            ask()


def test_the_expanded_engine_is_exact_past_a_chunk() -> None:
    lm = chunked(FastEngine.expanded)
    long = prompts_of(lm, [2 * CHUNK + 3, CHUNK + 1])
    found = make_engine(lm, "auto", 64).patch_heads(long, values_of(lm), all_heads(lm)[:5]).patched
    due = make_engine(lm, "naive", 64).patch_heads(long, values_of(lm), all_heads(lm)[:5]).patched
    torch.testing.assert_close(found, due, rtol=0, atol=TOLERANCE)


def test_a_self_check_compares_the_engines_past_a_chunk_where_they_run_there() -> None:
    assert selfcheck(chunked(FastEngine.expanded))["past_windows_vs_naive"] <= TOLERANCE
    assert selfcheck(chunked(FastEngine.shared_prefix))["past_windows_vs_naive"] is None  # it refuses such prompts
    assert selfcheck(chunked(attention_chunk_size=2**13))["past_windows_vs_naive"] is None  # past what is worth it
    assert selfcheck(tiny("llama"))["past_windows_vs_naive"] is None


def test_a_self_check_refuses_a_block_that_hides_earlier_tokens_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = modeling_llama.eager_attention_forward

    def in_chunks(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *args: Any, **kwargs: Any) -> Any:
        at = torch.arange(key.shape[2])
        other = at[-query.shape[2] :, None] // CHUNK != at // CHUNK
        hidden = attention_mask.masked_fill(other, torch.finfo(attention_mask.dtype).min)
        return attend(module, query, key, value, hidden, *args, **kwargs)

    monkeypatch.setattr(modeling_llama, "eager_attention_forward", in_chunks)
    lm = tiny("llama")
    assert selfcheck(lm)["past_windows_vs_naive"] is None  # nothing says that there are chunks
    lm.model.config.attention_chunk_size = CHUNK
    with pytest.raises(SpecError, match=r"shared_prefix engine is \d\S* away .* on prompts of 10 tokens at most"):
        selfcheck(lm)


@pytest.mark.parametrize("mode", ["shared_prefix", "expanded"])
def test_a_model_whose_tokens_see_later_ones_is_left_to_the_naive_engine(mode: str) -> None:
    lm = tiny("gemma3_text", use_bidirectional_attention=True)
    prompts = prompts_of(lm, [6, 4])
    with pytest.raises(EngineError, match="lets tokens see later ones, for which only the naive engine is exact"):
        make_engine(lm, mode, 64).target_logprobs(prompts, [None])
    assert make_engine(lm, "naive", 64).target_logprobs(prompts, [None]).isfinite().all()


def test_windows_and_chunks_are_what_configurations_call_so() -> None:
    assert spans_of(chunked().config) == [CHUNK]
    assert spans_of(tiny("gemma2").config) == [4] and spans_of(tiny("gpt_neo").config) == [3]
    assert spans_of(tiny("llama").config) == spans_of(tiny("gpt2").config) == []
