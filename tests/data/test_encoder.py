"""Targets by themselves: the tokens they have behind their prompts, or the prompts are tokenised too."""

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from fv.data.encoder import SPACE_PATTERNS, Encoder, borders_of
from fv.models.language_model import LanguageModel

# What patterns treat apart: white space of many kinds, contractions, digits, marks that combine, added tokens.
FRAGMENTS = [
    *(" ", "  ", "\n", "\n\n", "\t", "\r\n", "\u00a0", "\u3000", "\u2028", "\x1c", "\x85", "\u200b", "\u180e"),
    *("'s", "'", "don't", "12", "3", "½", "e\u0301", "\u0301", "é", "한국", "👩🏽‍🚀", "!", "?!", "$", "_"),
    *("Q:", "A:", "word", "Word", "<|endoftext|>", "<|im_start|>", "<|", "|>", "ﬁ", "ß"),
]
texts = st.lists(
    st.sampled_from(FRAGMENTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=14
)


def assert_same_apart(lm: LanguageModel, prompt: str, target: str, special: bool = False) -> None:
    encoder = Encoder(lm, special)
    if encoder.is_apart(prompt, target):
        alone = lm.encode(prompt, special)
        assert lm.encode(prompt + target, special) == alone + encoder.encode_apart(target)
        assert len(alone) <= lm.max_tokens


def with_backend(lm: LanguageModel, **parts: Any) -> LanguageModel:
    """`lm` with other parts in its tokenizer."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    for name, part in parts.items():
        setattr(tokenizer.backend_tokenizer, name, part)
    return dataclasses.replace(lm, tokenizer=tokenizer)


@settings(deadline=None, max_examples=300)
@given(prompt=texts, space=st.sampled_from([" ", "\n", ""]), rest=texts)
def test_a_target_has_the_tokens_that_it_has_behind_its_prompt(
    tiny_llama: LanguageModel, tiny_gpt2: LanguageModel, prompt: list[str], space: str, rest: list[str]
) -> None:
    for lm in (tiny_llama, tiny_gpt2):
        assert borders_of(lm.tokenizer) == " \n"
        assert_same_apart(lm, "".join(prompt), space + "".join(rest))


def split_by(pattern: str) -> Any:
    parts = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    return pre_tokenizers.Sequence(parts)


def trained(pattern: str) -> models.BPE:
    """Merges of a small text cut by `pattern`, so that they go as far as its matches do."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = split_by(pattern)
    text = "".join(FRAGMENTS) + "Q: word\nA: Word 12!\n\n"
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([text] * 20, trainer)
    return backend.model


LLAMA3, QWEN = SPACE_PATTERNS


@pytest.fixture(
    scope="module",
    params=[
        (" \n", {"normalizer": normalizers.NFC()}),
        (
            " \n",
            {"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])},
        ),
        (" ", {"pre_tokenizer": split_by(LLAMA3), "model": trained(LLAMA3)}),
        (" ", {"pre_tokenizer": split_by(QWEN), "model": trained(QWEN), "normalizer": normalizers.NFC()}),
    ],
    ids=["nfc", "digits", "llama3", "qwen"],
)
def known(request: pytest.FixtureRequest, tiny_gpt2: LanguageModel) -> LanguageModel:
    """A model with a tokenizer of another known pattern."""
    borders, parts = request.param
    lm = with_backend(tiny_gpt2, **parts)
    assert borders_of(lm.tokenizer) == borders
    return lm


@settings(deadline=None, max_examples=100)
@given(prompt=texts, space=st.sampled_from([" ", "\n"]), rest=texts)
def test_so_it_has_under_other_known_patterns(
    known: LanguageModel, prompt: list[str], space: str, rest: list[str]
) -> None:
    assert_same_apart(known, "".join(prompt), space + "".join(rest))


def test_a_newline_is_no_border_where_punctuation_takes_it(tiny_gpt2: LanguageModel) -> None:
    lm = with_backend(tiny_gpt2, model=trained(SPACE_PATTERNS[0]), pre_tokenizer=split_by(SPACE_PATTERNS[0]))
    assert Encoder(lm, False).is_apart("12!", " x") and not Encoder(lm, False).is_apart("12!", "\n\n")
    assert lm.encode("12!\n\n", False) != lm.encode("12!", False) + lm.encode("\n\n", False)


@pytest.mark.parametrize(
    ("template", "known"),
    [("<|endoftext|> $A", True), ("$A <|endoftext|>", False), ("<|endoftext|> $A <|endoftext|>", False)],
)
def test_special_tokens_may_stand_before_a_prompt_and_not_behind(
    tiny_gpt2: LanguageModel, template: str, known: bool
) -> None:
    begin = ("<|endoftext|>", 50256)
    lm = with_backend(tiny_gpt2, post_processor=processors.TemplateProcessing(single=template, special_tokens=[begin]))
    assert Encoder(lm, special=False).is_apart("Q: up\nA:", " down")
    assert Encoder(lm, special=True).is_apart("Q: up\nA:", " down") == known
    assert_same_apart(lm, "Q: up\nA:", " down", special=True)


@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()])
def test_a_prompt_that_may_be_too_long_is_tokenised(tiny_gpt2: LanguageModel, normalizer: Any) -> None:
    lm = with_backend(tiny_gpt2, normalizer=normalizer)
    most = lm.max_tokens // (3 if normalizer else 1)
    grows = "\u0958"  # one character of three bytes; composed, two of six
    for text in ("a", "é", grows):
        prompt = text * (most // len(text.encode()))
        assert Encoder(lm, False).is_apart(prompt, " b") and not Encoder(lm, False).is_apart(prompt + text, " b")
        assert len(lm.encode(prompt, False)) <= lm.max_tokens


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": normalizers.NFKC()},
        {"normalizer": normalizers.Strip()},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)},
        {"pre_tokenizer": pre_tokenizers.Metaspace()},
        {"pre_tokenizer": pre_tokenizers.Split(Regex(r"\S+\s*"), "isolated")},
        {"pre_tokenizer": split_by(r"\S+\s*")},
    ],
)
def test_other_tokenizers_are_given_the_prompts_too(tiny_gpt2: LanguageModel, parts: dict[str, Any]) -> None:
    lm = with_backend(tiny_gpt2, **parts)
    assert borders_of(lm.tokenizer) == ""
    whole = ["Q: up\nA: down", " down", ""]
    encoder = Encoder(lm, special=False)
    assert encoder.encode(whole) == [lm.encode(text, False) for text in whole]
    assert encoder.encode([]) == [] and not encoder.is_apart("up", " down")


@pytest.mark.parametrize("added", [AddedToken("a b"), AddedToken("<x>", lstrip=True), AddedToken("<x>", rstrip=True)])
def test_an_added_token_with_white_space_leaves_no_border(tiny_gpt2: LanguageModel, added: AddedToken) -> None:
    lm = with_backend(tiny_gpt2)
    lm.tokenizer.backend_tokenizer.add_tokens([added])
    assert borders_of(lm.tokenizer) == ""


def test_a_tokenizer_without_rules_for_cutting_has_no_border() -> None:
    class Slow:
        backend_tokenizer = Tokenizer(models.BPE())

    assert borders_of(Slow()) == borders_of(object()) == ""
