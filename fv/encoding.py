"""Token ids of many texts at once, each word tokenised once where that gives the same tokens."""

import json
import re
from collections.abc import Sequence
from itertools import chain
from typing import Any

from fv.models.language_model import LanguageModel

MAX_WORDS = 50_000
"""Words that are remembered; beyond it all are forgotten, so that a million pairs do not fill the memory."""
_CUT = re.compile(r"(?<=\S)(?=[ \n])")
"""Where a text falls into words: before a space or a newline that follows a visible character."""


class Encoder:
    """Encodes texts that share words, such as the prompts of one relation.

    Args:
        lm: whose tokenizer it is.
        special: whether the tokenizer adds its special tokens.
    """

    def __init__(self, lm: LanguageModel, special: bool) -> None:
        self.lm = lm
        self._special = special
        self._words = None if special or not splits_at_words(lm.tokenizer) else _Words(lm.tokenizer.backend_tokenizer)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: what `LanguageModel.encode` gives."""
        if self._words is None:
            if not texts:
                return []
            return self.lm.tokenizer(list(texts), add_special_tokens=self._special)["input_ids"]
        if len(self._words) > MAX_WORDS:
            self._words.clear()
        ids_of = self._words.__getitem__
        return [list(chain.from_iterable(map(ids_of, _CUT.split(text)))) for text in texts]

    def is_border(self, before: str, after: str) -> bool:
        """Whether the tokens of `before + after` are known to be those of `before`, then those of `after`."""
        return self._words is not None and before[-1:].strip() != "" and after[:1] in (" ", "\n")


class _Words(dict[str, list[int]]):
    """Token ids of words, found when they are first asked for."""

    def __init__(self, backend: Any) -> None:
        super().__init__()
        self._backend = backend

    def __missing__(self, word: str) -> list[int]:
        # The backend itself, and one by one: what surrounds it, and its threads, cost more than a short word.
        ids: list[int] = self._backend.encode(word, add_special_tokens=False).ids
        self[word] = ids
        return ids


def splits_at_words(tokenizer: Any) -> bool:
    """Whether a tokenizer gives a text the tokens of its words, one word after the other.

    True of the byte-level tokenizers with GPT-2's pattern. No match of that pattern holds a space or a newline behind
    a visible character, and what it looks ahead at is only whether white space goes on; so a match always ends where
    a word does. Merges stay inside a match, NFC composes nothing with a space or newline before it, and a token that
    was added holds no white space and takes none from its sides. Of others it is not known, and they are said False.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        return False
    if backend.truncation or backend.padding or backend.encode_special_tokens or tokenizer.split_special_tokens:
        return False
    if backend.normalizer is not None and _state(backend.normalizer)["type"] != "NFC":
        return False
    split = _state(backend.pre_tokenizer)
    *before, last = split["pretokenizers"] if split["type"] == "Sequence" else [split]
    if any(part["type"] != "Digits" for part in before) or last["type"] != "ByteLevel":
        return False
    if last["add_prefix_space"] or not last.get("use_regex", True) or getattr(backend.model, "dropout", None):
        return False
    added = backend.get_added_tokens_decoder().values()
    return not any(t.lstrip or t.rstrip or t.single_word or re.search(r"\s", t.content) for t in added)


def _state(part: Any) -> dict[str, Any]:
    """A part of a fast tokenizer, as its file has it."""
    return json.loads(part.__getstate__())
