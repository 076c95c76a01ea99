"""Where the tokens of a prompt's answer can be found without tokenising the prompt."""

import json
import re
from collections.abc import Sequence
from typing import Any, Protocol

from fv.models.token_ids import plain_token_ids, token_ids, token_ids_of_a

MAX_TARGETS = 50_000
"""Targets whose tokens are remembered; beyond it all are forgotten, so that a million pairs do not fill the memory."""
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACE_PATTERNS = (_LLAMA3, _LLAMA3.replace("{1,3}", ""))
"""Patterns of Llama-3 and of Qwen: like GPT-2's, but a newline may belong to the punctuation before it."""


class HasTokenizer(Protocol):
    """What an `Encoder` needs of a model: a `LanguageModel`, or a `fv.models.tokenizer.ModelTokenizer`, has it."""

    @property
    def tokenizer(self) -> Any:
        """A Hugging Face tokenizer."""

    @property
    def max_tokens(self) -> int:
        """Longest prompt the model has positions for."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """What identifies it; `tokenizer_sha256` is there."""


class Encoder:
    """Encodes prompts and targets with one tokenizer.

    Args:
        lm: whose tokenizer it is.
        special: whether the tokenizer adds its special tokens.
        name: what a message calls the setting that leaves them out.

    Attributes:
        closes: whether the tokenizer puts a token of its own behind a text, where an answer would have to follow.
    """

    def __init__(self, lm: HasTokenizer, special: bool, name: str = "special") -> None:
        self.lm, self.name = lm, name
        self._special = special
        self._borders = borders_of(lm.tokenizer)
        self._n_before, self.closes = 0, False
        if special:
            plain, framed = token_ids_of_a(lm.tokenizer)
            self._n_before = len(framed) - len(plain)
            self.closes = framed[-1:] != plain[-1:]
            if framed[self._n_before :] != plain:  # something is added behind a text: nothing can follow it
                self._borders = ""
        # A byte-level token stands for a byte or more; composition makes at most three bytes of one.
        self._growth = 3 if self._borders and lm.tokenizer.backend_tokenizer.normalizer else 1
        self._apart: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text: what `LanguageModel.encode` gives, in one call."""
        return token_ids(self.lm.tokenizer, texts, self._special)

    def is_apart(self, prompt: str, target: str) -> bool:
        """Whether it is known without tokenising that `prompt` fits into the model and `target` follows it cleanly.

        Then the tokens of `prompt + target` are those of `prompt` and `encode_apart(target)`.
        """
        if not (target[:1] and target[0] in self._borders and prompt[-1:].strip()):
            return False
        return self._growth * len(prompt.encode()) + self._n_before <= self.lm.max_tokens

    def encode_apart(self, target: str) -> list[int]:
        """Token ids of a target by itself."""
        if (ids := self._apart.get(target)) is None:
            if len(self._apart) >= MAX_TARGETS:
                self._apart.clear()
            ids = plain_token_ids(self.lm.tokenizer, target)
            self._apart[target] = ids
        return ids


def borders_of(tokenizer: Any) -> str:
    """The characters before which a tokenizer always cuts when a visible character stands before them.

    Space and newline for byte-level tokenizers with GPT-2's pattern, space for those with Llama-3's or Qwen's. No match
    of these patterns holds such a character behind a visible one, and what they look ahead at is only whether white
    space goes on; so a match always ends there. Merges stay inside a match, NFC composes nothing with a space or
    newline before it, and a token that was added holds no white space and takes none from its sides. Of other
    tokenizers it is not known: none.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or backend.pre_tokenizer is None:
        return ""
    if tokenizer.split_special_tokens:
        return ""
    if backend.normalizer is not None and _state(backend.normalizer)["type"] != "NFC":
        return ""
    added = backend.get_added_tokens_decoder().values()
    if any(t.lstrip or t.rstrip or t.single_word or re.search(r"\s", t.content) for t in added):
        return ""
    split = _state(backend.pre_tokenizer)
    *before, last = split["pretokenizers"] if split["type"] == "Sequence" else [split]
    if last["type"] != "ByteLevel" or last["add_prefix_space"] or getattr(backend.model, "dropout", None):
        return ""
    if last.get("use_regex", True):
        return " \n" if all(part["type"] == "Digits" for part in before) else ""
    return " " if len(before) == 1 and _splits_before_spaces(before[0]) else ""


def _splits_before_spaces(part: dict[str, Any]) -> bool:
    if part["type"] != "Split" or part["behavior"] != "Isolated" or part["invert"]:
        return False
    return part["pattern"].get("Regex") in SPACE_PATTERNS


def _state(part: Any) -> dict[str, Any]:
    """A part of a fast tokenizer, as its file has it."""
    return json.loads(part.__getstate__())
