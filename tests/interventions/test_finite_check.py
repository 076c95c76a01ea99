"""A number that is not finite ends in one error, whichever engine gives it and whatever is asked."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from families import tiny, tiny_editable
from not_finite import not_finite
from sweep_checks import all_heads, for_each, prompts_of, values_of, vectors_of

from fv.errors import NotFiniteError
from fv.interventions.edits import AddVector, ReplaceResidual, SetHeads
from fv.interventions.engine import Cell, Head
from fv.interventions.engines import make_engine
from fv.interventions.halving import HalvingEngine
from fv.interventions.selfcheck import selfcheck
from fv.models.prompt import Prompt

MODES = ["naive", "expanded", "shared_prefix"]
Asked = list[Prompt]


def asked_of(engine: HalvingEngine) -> Asked:
    prompts = prompts_of(engine.lm, [4, 6, 4])
    return [p._replace(answer=(p.target, 7), wrong=(5, 6), name=f"prompt {'abc'[i]}") for i, p in enumerate(prompts)]


ASKS: dict[str, Callable[[HalvingEngine, Asked], Any]] = {
    "last_token": lambda engine, asked: engine.last_token(asked),
    "patch_heads": lambda engine, asked: engine.patch_heads(asked, values_of(engine.lm), all_heads(engine.lm)[:2]),
    "inject": lambda engine, asked: engine.inject(asked, for_each(asked, vectors_of(engine.lm)), [Cell(1, 1.0)]),
    "target_logprobs": lambda engine, asked: engine.target_logprobs(asked, [None]),
    "answers": lambda engine, asked: engine.answers(asked, [None, AddVector(1, vectors_of(engine.lm)[0])]),
    "divergences": lambda engine, asked: engine.divergences(asked, [AddVector(1, vectors_of(engine.lm)[0])]),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ask", ASKS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_the_first_prompt_behind_which_numbers_are_not_finite_is_named(mode: str, ask: str, bad: float) -> None:
    lm = tiny("llama")
    engine = make_engine(lm, mode, 64)
    asked = asked_of(engine)
    ASKS[ask](engine, asked)
    bad_ones = (asked[1].token_ids, asked[2].token_ids)
    message = r"llama gives numbers that are not finite after prompt b \(6 tokens\), .*runs in float32; load it in floa"
    with not_finite(lm, *bad_ones, bad=bad), pytest.raises(NotFiniteError, match=message):
        ASKS[ask](engine, asked)


@pytest.mark.parametrize("method", ["gradient", "integrated"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_estimates_that_are_not_finite_name_the_prompt_and_a_head(family: str, method: str) -> None:
    lm = tiny(family)
    engine = make_engine(lm, "auto", 64)
    asked = asked_of(engine)[::2]
    with not_finite(lm, asked[1].token_ids), pytest.raises(NotFiniteError, match=r"prompt c \(4 tokens\).*head 0\.0"):
        engine.head_scores(asked, values_of(lm), method, 2)


@pytest.mark.parametrize("mode", MODES)
def test_numbers_behind_the_last_token_of_an_answer_count_too(mode: str) -> None:
    lm = tiny("llama")
    engine = make_engine(lm, mode, 64)
    ids = (5, 17, 30)
    said = int(engine.answers([Prompt(ids, (9,))], [None])[0].likeliest[0, 0])
    assert said not in ids
    lm.model.get_input_embeddings().weight[said] = torch.nan
    with pytest.raises(NotFiniteError, match="prompt 1 of 1"):
        engine.answers([Prompt(ids, (said,))], [None])
    # Where greedy decoding says another token, nobody looks there.
    other = next(token for token in range(40, 90) if token != said)
    assert engine.answers([Prompt(ids, (other,))], [None])[0].scores.logprob.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "large"), [(torch.float16, 6e4), (torch.bfloat16, 3e38), (torch.float32, 3e38)])
def test_an_edit_that_does_not_fit_the_number_format_is_named_with_it(
    mode: str, dtype: torch.dtype, large: float
) -> None:
    lm = tiny("llama", dtype)
    engine = make_engine(lm, mode, 64)
    (prompt,) = prompts_of(lm, [4])
    vectors = torch.full((1, 1, lm.d_model), large)
    remedy = {torch.float16: "bfloat16", torch.bfloat16: "float32", torch.float32: "float64"}[dtype]
    where = rf"with 100 times a vector added after block 1\. It runs in {str(dtype)[6:]}; .*{remedy}.*use weaker edits"
    with pytest.raises(NotFiniteError, match=where):
        engine.inject([prompt], vectors, [Cell(0, 1e-3), Cell(1, 100.0)])
    edits = [None, SetHeads((Head(0, 1),), torch.full((lm.n_layers, lm.n_heads, lm.head_dim), torch.inf))]
    with pytest.raises(NotFiniteError, match="with 1 heads set"):
        engine.target_logprobs([prompt], edits)
    values = torch.full((lm.n_layers, lm.n_heads, lm.head_dim), torch.inf)
    with pytest.raises(NotFiniteError, match=r"with head 2\.1 set to its clean mean"):
        engine.patch_heads([prompt], values, [Head(2, 1)])
    with pytest.raises(NotFiniteError, match="with the residual stream after block 2 replaced"):
        engine.divergences([prompt], [None, ReplaceResidual(2, torch.full((lm.d_model,), torch.inf))])


def test_weights_that_are_not_finite_are_named_and_no_format_is_advised() -> None:
    lm = tiny("llama")
    lm.model.model.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
    for ask in (lambda: make_engine(lm, "auto", 64).last_token(prompts_of(lm, [3])), lambda: selfcheck(lm)):
        with pytest.raises(NotFiniteError, match=r"weights .*\(model\.layers\.1\.mlp\.up_proj\.weight\)") as caught:
            ask()
        assert "runs in" not in str(caught.value)


def test_an_overflow_at_load_blames_the_number_format_and_not_the_spec() -> None:
    lm = tiny("llama", torch.float16)
    lm.model.model.embed_tokens.weight.mul_(3e5)
    lm.model.model.embed_tokens.weight.clamp_(-6e4, 6e4)
    for layer in lm.model.model.layers:
        layer.mlp.down_proj.weight.fill_(6e4)
    with pytest.raises(NotFiniteError, match=r"a prompt of the self-check.*float16.*float32, or in bfloat16") as caught:
        selfcheck(lm)
    assert "spec" not in str(caught.value)


def test_a_generation_of_what_is_no_number_is_refused() -> None:
    lm = tiny_editable("llama")
    texts = ["hot", "cold"]
    lm.generate(texts, 2)
    lm.model.get_input_embeddings().weight[lm.encode("l", False)[0]] = torch.nan
    with pytest.raises(NotFiniteError, match=r"after prompt 2 of 2 \(4 tokens\), unedited\. Its weights"):
        lm.generate(texts, 2)
    strong = [AddVector(1, torch.full((lm.d_model,), 3e38)), AddVector(1, torch.full((lm.d_model,), 3e38))]
    with lm.edited(strong), pytest.raises(NotFiniteError, match="block 1 and with a vector added after block 1"):
        lm.generate("hot", 2)
