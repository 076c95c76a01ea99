"""The encoder of prompts and answers, which tokenises an answer alone where that gives the same tokens."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from fv.errors import TrialError
from fv.models.token_ids import Spans, plain_token_ids, token_ids, token_ids_of_a, token_spans, tokenizer_digest

MAX_TARGETS = 50_000
"""Targets whose tokens are remembered; beyond it all are forgotten, so that a million pairs do not fill memory."""
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPACE_PATTERNS = (_LLAMA3, _LLAMA3.replace("{1,3}", ""))
"""Split patterns of Llama-3 and of Qwen: like GPT-2's, but a newline may belong to the punctuation before it."""


class _Part(TypedDict, total=False):
    """A part of a fast tokenizer, in the form of its file; each type of part has some of the keys."""

    type: str
    pretokenizers: list["_Part"]
    behavior: str
    invert: bool
    pattern: dict[str, str]
    add_prefix_space: bool
    use_regex: bool


class HasTokenizer(Protocol):
    """The part of a model that an `Encoder` needs: of a `LanguageModel`, or a `fv.models.tokenizer.ModelTokenizer`."""

    @property
    def tokenizer(self) -> Any:
        """A Hugging Face tokenizer."""

    @property
    def max_tokens(self) -> int:
        """Longest prompt the model has positions for."""

    @property
    def name(self) -> str:
        """Short name, for messages."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """The digests that identify it, `tokenizer_sha256` among them."""


@dataclass(frozen=True)
class _Tokenizer:
    """A tokenizer alone, in the form that an `Encoder` takes."""

    tokenizer: Any
    max_tokens: int
    name: str
    fingerprint: dict[str, str]


def with_tokenizer(lm: Any) -> HasTokenizer:
    """A holder of a tokenizer: a model unchanged, or a tokenizer in the place of a model.

    Raises:
        TrialError: `lm` is neither.
    """
    if hasattr(lm, "tokenizer") and hasattr(lm, "max_tokens"):
        return lm
    if callable(lm) and hasattr(lm, "convert_ids_to_tokens"):
        limit = int(min(getattr(lm, "model_max_length", 2**31), 2**31))
        return _Tokenizer(lm, limit, type(lm).__name__, {"tokenizer_sha256": tokenizer_digest(lm)})
    raise TrialError(f"lm is a {type(lm).__name__}, where a model of fv.load_model or fv.wrap, or a tokenizer is due.")


class Encoder:
    """Encodes prompts and targets with one tokenizer.

    Args:
        lm: the model, or another holder of a tokenizer.
        special: whether the tokenizer adds its special tokens.
        name: the name, in messages, of the setting that leaves them out.

    Attributes:
        closes: whether the tokenizer adds a token of its own after a text, where an answer would have to follow.
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
            if framed[self._n_before :] != plain:  # a token is added after a text: no answer can follow directly
                self._borders = ""
        # A byte-level token stands for one byte or more; Unicode composition turns one byte into at most three.
        self._growth = 3 if self._borders and lm.tokenizer.backend_tokenizer.normalizer else 1
        self._apart: dict[str, list[int]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, as `LanguageModel.encode` gives them, in one call."""
        return token_ids(self.lm.tokenizer, texts, self._special)

    def spans(self, text: str) -> Spans:
        """Token ids of one text, as by `encode`, with the span of each token."""
        return token_spans(self.lm.tokenizer, text, self._special)

    def is_apart(self, prompt: str, target: str) -> bool:
        """True if, without tokenising, `prompt` is known to fit the model and `target` to begin a new token after it.

        Then the tokens of `prompt + target` are those of `prompt` and `encode_apart(target)`.
        """
        if not (target[:1] and target[0] in self._borders and prompt[-1:].strip()):
            return False
        return self._growth * len(prompt.encode()) + self._n_before <= self.lm.max_tokens

    def encode_apart(self, target: str) -> list[int]:
        """Token ids of a target alone."""
        if (ids := self._apart.get(target)) is None:
            if len(self._apart) >= MAX_TARGETS:
                self._apart.clear()
            ids = plain_token_ids(self.lm.tokenizer, target)
            self._apart[target] = ids
        return ids


def borders_of(tokenizer: Any) -> str:
    """The characters before which a tokenizer always begins a new token if a visible character comes before them.

    They are space and newline for byte-level tokenizers with GPT-2's pattern, and space for those with Llama-3's or
    Qwen's. No match of these patterns contains such a character after a visible one, and their lookahead only checks
    whether white space goes on, so a match always ends there. Merges stay inside a match. NFC composes nothing across a
    space or newline. Added tokens contain no white space and take none from their sides. For other tokenizers nothing
    is known, so the result is empty.
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


def _splits_before_spaces(part: _Part) -> bool:
    if part["type"] != "Split" or part["behavior"] != "Isolated" or part["invert"]:
        return False
    return part["pattern"].get("Regex") in SPACE_PATTERNS


def _state(part: Any) -> _Part:
    """A part of a fast tokenizer, in the form of its file."""
    found: _Part = json.loads(part.__getstate__())
    return found
