"""What is priced, beside what is taken to fit."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fv.config import ComputeConfig, Dtype
from fv.interventions.memory import TOKENS, bytes_a_row, rows_that_fit
from fv.models.language_model import LanguageModel
from fv.pricing.memory import prefix_bytes, token_bytes
from fv.pricing.operations import PromptPass
from fv.pricing.priced_model import priced_model_of
from fv.pricing.shape import Shape


@pytest.fixture(scope="module", params=["gpt2", "llama32_1b", "llama31_405b"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """Shapes without weights."""
    return priced_model_of(request.param, ComputeConfig(dtype=Dtype.bf16, strict=False)).lm


@pytest.fixture(scope="module")
def shape(lm: LanguageModel) -> Shape:
    return Shape.of(lm)


def pass_bytes(shape: Shape, n_rows: int, n_tokens: int) -> int:
    """Of as many prompts of so many tokens as the rows hold."""
    n_prompts = n_rows // n_tokens
    return prefix_bytes(shape, PromptPass(n_prompts, n_tokens)) + token_bytes(shape, n_prompts * n_tokens)


@given(free=st.integers(2**26, 2**42), n_tokens=st.integers(4, TOKENS))
def test_prompts_that_are_taken_to_fit_are_priced_below_the_free_memory(
    lm: LanguageModel, shape: Shape, free: int, n_tokens: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fv.interventions.memory.free_bytes", lambda _: free)
        rows = rows_that_fit(lm)
    assume(rows >= n_tokens)
    assert pass_bytes(shape, rows, n_tokens) <= free


@pytest.mark.parametrize("n_tokens", [16, 108, TOKENS])
def test_from_sixteen_tokens_on_a_price_stays_below_what_rows_are_reckoned_with(
    lm: LanguageModel, shape: Shape, n_tokens: int
) -> None:
    share = pass_bytes(shape, 4096, n_tokens) / (4096 // n_tokens * n_tokens * bytes_a_row(lm))
    assert 0.35 < share < 0.85
