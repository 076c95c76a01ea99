"""Encoding by words: the same tokens as the whole text gives, or not by words at all."""

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from fv.encoding import Encoder, splits_at_words
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


@settings(deadline=None, max_examples=300)
@given(parts=texts, cut=st.integers(0, 14))
def test_a_text_has_the_tokens_of_its_words(
    tiny_llama: LanguageModel, tiny_gpt2: LanguageModel, parts: list[str], cut: int
) -> None:
    text, before, after = "".join(parts), "".join(parts[:cut]), "".join(parts[cut:])
    for lm in (tiny_llama, tiny_gpt2):
        assert splits_at_words(lm.tokenizer)
        encoder = Encoder(lm, special=False)
        assert encoder.encode([text, text, before]) == [lm.encode(t, False) for t in (text, text, before)]
        if encoder.is_border(before, after):
            assert lm.encode(text, False) == lm.encode(before, False) + lm.encode(after, False)


def with_backend(lm: LanguageModel, **parts: Any) -> LanguageModel:
    """`lm` with other parts in its tokenizer."""
    tokenizer = copy.deepcopy(lm.tokenizer)
    for name, part in parts.items():
        setattr(tokenizer.backend_tokenizer, name, part)
    return dataclasses.replace(lm, tokenizer=tokenizer)


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": normalizers.NFC()},
        {"pre_tokenizer": pre_tokenizers.Sequence([pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(False)])},
    ],
)
@settings(deadline=None, max_examples=15)
@given(fragments=texts)
def test_composition_and_single_digits_keep_the_words(
    tiny_gpt2: LanguageModel, parts: dict[str, Any], fragments: list[str]
) -> None:
    lm, text = with_backend(tiny_gpt2, **parts), "".join(fragments)
    assert splits_at_words(lm.tokenizer)
    assert Encoder(lm, special=False).encode([text]) == [lm.encode(text, False)]


@pytest.mark.parametrize(
    "parts",
    [
        {"normalizer": normalizers.NFKC()},
        {"normalizer": normalizers.Strip()},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=True)},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)},
        {"pre_tokenizer": pre_tokenizers.Metaspace()},
        {"pre_tokenizer": pre_tokenizers.Split(Regex(r"\S+\s*"), "isolated")},
    ],
)
def test_other_tokenizers_are_given_whole_texts(tiny_gpt2: LanguageModel, parts: dict[str, Any]) -> None:
    lm = with_backend(tiny_gpt2, **parts)
    assert not splits_at_words(lm.tokenizer)
    whole = ["Q: up\nA: down", " down", ""]
    encoder = Encoder(lm, special=False)
    assert encoder.encode(whole) == [lm.encode(text, False) for text in whole]
    assert encoder.encode([]) == [] and not encoder.is_border("up", " down")


@pytest.mark.parametrize("added", [AddedToken("a b"), AddedToken("<x>", lstrip=True), AddedToken("<x>", rstrip=True)])
def test_an_added_token_with_white_space_forbids_words(tiny_gpt2: LanguageModel, added: AddedToken) -> None:
    lm = with_backend(tiny_gpt2)
    lm.tokenizer.backend_tokenizer.add_tokens([added])
    assert not splits_at_words(lm.tokenizer)


def test_a_tokenizer_without_rules_for_cutting_is_given_whole_texts() -> None:
    class Slow:
        backend_tokenizer = Tokenizer(models.BPE())

    assert not splits_at_words(Slow()) and not splits_at_words(object())
