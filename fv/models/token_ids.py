"""Token ids of texts: every text is encoded here, independent of the tokenizer's current padding and truncation."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

from fv.files import digest_of


class Spans(NamedTuple):
    """Token ids of a text, with the start and end of each token in it, in characters."""

    token_ids: list[int]
    spans: list[tuple[int, int]]


def token_ids(tokenizer: Any, texts: Sequence[str], special: bool) -> list[list[int]]:
    """Token ids of each text, neither padded nor cut, in one call.

    A text that already begins with the token that the tokenizer puts before texts (BOS), such as one from a chat
    template, gets no second one.

    Args:
        tokenizer: a Hugging Face tokenizer.
        texts: the texts.
        special: whether the tokenizer adds its special tokens.
    """
    if not texts:
        return []
    # Not verbose: a prompt that is too long is refused elsewhere, when it is made.
    found = tokenizer(list(texts), add_special_tokens=special, padding=False, truncation=False, verbose=False)
    return [ids[_n_repeated(tokenizer, ids, special) :] for ids in found["input_ids"]]


def token_spans(tokenizer: Any, text: str, special: bool) -> Spans:
    """Token ids of one text, as by `token_ids`, with the span of each token."""
    asked = {"add_special_tokens": special, "return_offsets_mapping": True}
    found = tokenizer(text, padding=False, truncation=False, verbose=False, **asked)
    start = _n_repeated(tokenizer, found["input_ids"], special)
    return Spans(found["input_ids"][start:], found["offset_mapping"][start:])


def plain_token_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a short text without special tokens, by the tokenizer's backend: calling the tokenizer itself takes
    eight times longer."""
    backend = tokenizer.backend_tokenizer
    # The tokenizer sets all three in every call; the backend keeps the state of the last call.
    if backend.padding is not None:
        backend.no_padding()
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens
    return backend.encode(text, add_special_tokens=False).ids


def _n_before(tokenizer: Any) -> int:
    """Number of tokens that the tokenizer puts before a text by itself."""
    plain, framed = token_ids_of_a(tokenizer)
    # The first place at which the text's own token ids appear.
    return next((n for n in range(len(framed)) if framed[n : n + len(plain)] == plain), 0)


def _n_repeated(tokenizer: Any, ids: Sequence[int], special: bool) -> int:
    """Number of tokens at the beginning of an encoded text that are there twice: added, and in the text itself."""
    # Most texts repeat no token at the beginning, and need no further check.
    if not special or len(ids) < 2 or ids[0] not in ids[1:3]:
        return 0
    count = _n_before(tokenizer)
    return count if count and list(ids[:count]) == list(ids[count : 2 * count]) else 0


def token_ids_of_a(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids of the text "a", without and with the special tokens that the tokenizer adds by itself."""
    plain, framed = (
        tokenizer("a", add_special_tokens=special, padding=False, truncation=False)["input_ids"]
        for special in (False, True)
    )
    return plain, framed


def tokenizer_digest(tokenizer: Any) -> str:
    """The digest of a tokenizer: SHA-256 of its full definition, or of its vocabulary.

    Padding and truncation are not part of it: they belong to the last call of the tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return digest_of(tokenizer.get_vocab())
    if backend.padding is not None or backend.truncation is not None:
        backend = copy.deepcopy(backend)
        backend.no_padding()
        backend.no_truncation()
    return digest_of(backend.to_str())
