"""Prompts: pairs become text without surprises, and text becomes tokens only at a clean boundary (spec section 5)."""

import copy
import dataclasses

import pytest
from conftest import MakeConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from fv.config import TemplateConfig
from fv.data.encoder import Encoder
from fv.data.relations import Pair
from fv.data.targets import TargetIds, accepted, target_tokens
from fv.data.templates import render, render_target
from fv.errors import TrialError
from fv.models.language_model import LanguageModel

DEFAULT = TemplateConfig()
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
braced = st.one_of(texts, st.sampled_from(["{exA}", "{exB}", "{", "}", "{{exA}}", "{0}", "%s", "\\1", "$exA"]))
words = st.text("abcdefghijklmnopqrstuvwxyzABCXYZéñß -'0123456789", min_size=1, max_size=12).filter(
    lambda text: text == text.strip()
)


def target_of(lm: LanguageModel, prompt: str, target: str, special: bool = False) -> TargetIds:
    """The tokens of one target behind its prompt."""
    return accepted(target_tokens(Encoder(lm, special), [(prompt, target)])[0])


def test_a_prompt_is_the_demonstrations_then_the_query() -> None:
    demos = [Pair("hot", "cold"), Pair("big", "little")]
    assert render(DEFAULT, demos, "up") == "Q: hot\nA: cold\n\nQ: big\nA: little\n\nQ: up\nA:"


def test_a_zero_shot_prompt_is_the_query_alone() -> None:
    assert render(DEFAULT, [], "up") == "Q: up\nA:"


def test_the_answer_follows_with_a_space() -> None:
    assert render_target(DEFAULT, "down") == " down"


def test_a_template_may_use_a_part_twice() -> None:
    template = TemplateConfig(demo="{exA} {exA}>{exB}{exB};", query="{exA}|{exA}>", target=" <{exB}>")
    assert render(template, [Pair("a", "b")], "q") == "a a>bb;q|q>"
    assert render_target(template, "b") == " <b>"


@given(demos=st.lists(st.tuples(braced, braced), max_size=4), query=braced, output=braced)
def test_nothing_inside_a_pair_is_taken_for_a_template(demos: list[tuple[str, str]], query: str, output: str) -> None:
    expected = "".join("Q: " + a + "\nA: " + b + "\n\n" for a, b in demos) + "Q: " + query + "\nA:"
    assert render(DEFAULT, [Pair(*demo) for demo in demos], query) == expected
    assert render_target(DEFAULT, output) == " " + output


@settings(deadline=None, max_examples=60)
@given(demos=st.lists(st.tuples(words, words), max_size=3), query=words, output=words)
def test_ordinary_pairs_have_a_clean_boundary_on_real_tokenizers(
    tiny_llama: LanguageModel, tiny_gpt2: LanguageModel, demos: list[tuple[str, str]], query: str, output: str
) -> None:
    prompt = render(DEFAULT, [Pair(*demo) for demo in demos], query)
    for lm in (tiny_llama, tiny_gpt2):
        target = target_of(lm, prompt, " " + output)
        assert [*lm.encode(prompt, False), *target] == lm.encode(prompt + " " + output, False)
        assert lm.tokenizer.decode(target) == " " + output


@settings(deadline=None, max_examples=100)
@given(prompt=texts, target=texts)
def test_tokens_of_prompt_and_target_are_tokens_of_both_or_it_is_refused(
    tiny_gpt2: LanguageModel, prompt: str, target: str
) -> None:
    try:
        found = target_of(tiny_gpt2, prompt, target)
    except TrialError as error:
        assert "target boundary mismatch" in str(error)
        alone, both = tiny_gpt2.encode(prompt, False), tiny_gpt2.encode(prompt + target, False)
        assert alone == both or both[: len(alone)] != alone
    else:
        assert [*tiny_gpt2.encode(prompt, False), *found] == tiny_gpt2.encode(prompt + target, False)
        assert found


@pytest.mark.parametrize(
    ("prompt", "target"), [("Q: x\nA: ", "Paris"), ("Q: x\nA: ", "Paris is"), ("Q: x\nA: cat", "s"), ("A:", "")]
)
def test_an_answer_that_merges_into_the_prompt_is_a_boundary_mismatch(
    tiny_lm: LanguageModel, prompt: str, target: str
) -> None:
    with pytest.raises(TrialError, match="target boundary mismatch"):
        target_of(tiny_lm, prompt, target)


def test_a_boundary_mismatch_shows_both_token_lists(tiny_gpt2: LanguageModel) -> None:
    # On GPT-2, "12" is token 1105 and "123" is token 17031.
    with pytest.raises(TrialError, match=r"target boundary mismatch.*'3'.*\[48, 25, 1105\].*\[48, 25, 17031\]"):
        target_of(tiny_gpt2, "Q: 12", "3")


def test_tokenizers_disagree_on_where_digits_merge(tiny_llama: LanguageModel) -> None:
    assert len(target_of(tiny_llama, "Q: 12", "3")) == 1


def test_special_tokens_come_once_and_before_the_prompt(tiny_gpt2: LanguageModel) -> None:
    tokenizer = copy.deepcopy(tiny_gpt2.tokenizer)
    begin = ("<|endoftext|>", 50256)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    lm = dataclasses.replace(tiny_gpt2, tokenizer=tokenizer)
    assert lm.encode("Q: up\nA:", True) == [50256, *lm.encode("Q: up\nA:", False)]
    assert target_of(lm, "Q: up\nA:", " down", special=True) == target_of(lm, "Q: up\nA:", " down")


def test_a_prompt_may_fill_the_models_positions_and_no_more(tiny_lm: LanguageModel) -> None:
    longest = " a" * tiny_lm.max_tokens
    assert len(tiny_lm.encode(longest, False)) == tiny_lm.max_tokens
    assert list(target_of(tiny_lm, longest, " b")) == tiny_lm.encode(" b", False)
    with pytest.raises(TrialError, match=f"{tiny_lm.max_tokens + 1} tokens, and the model takes {tiny_lm.max_tokens}"):
        target_of(tiny_lm, longest + " a", " b")


# The templates that ship


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("qa", "Q: hot\nA: cold\n\nQ: big\nA:"),
        ("arrow", "hot → cold\nbig →"),
        ("input_output", "Input: hot\nOutput: cold\n\nInput: big\nOutput:"),
        ("bare", "hot cold\nbig"),
        ("korean", "질문: hot\n답: cold\n\n질문: big\n답:"),
    ],
)
def test_a_template_is_chosen_by_name(make_config: MakeConfig, name: str, clean: str) -> None:
    template = make_config(f"data/template={name}").data.template
    assert render(template, [Pair("hot", "cold")], "big") == clean
    assert render_target(template, "small") == " small"
    assert make_config().data.template == make_config("data/template=qa").data.template


@pytest.mark.parametrize("tokenizer", ["tiny_gpt2", "tiny_llama"])
@pytest.mark.parametrize("name", ["qa", "arrow", "input_output", "bare", "korean"])
def test_every_template_keeps_the_answers_border(
    request: pytest.FixtureRequest, make_config: MakeConfig, name: str, tokenizer: str
) -> None:
    lm, template = request.getfixturevalue(tokenizer), make_config(f"data/template={name}").data.template
    for pair in (Pair("France", "Paris"), Pair("사과", "apple"), Pair("big", "작다")):
        prompt = render(template, [Pair("hot", "cold")], pair.exA)
        target = target_of(lm, prompt, render_target(template, pair.exB))
        assert [*lm.encode(prompt, False), *target] == lm.encode(prompt + f" {pair.exB}", False)
