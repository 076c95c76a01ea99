"""A single token as text, or as bytes where it is a part of a character. No torch here."""

import re
from typing import Any

BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""How a tokenizer with byte fallback names the token of a byte."""


def shown_token(tokenizer: Any, token: int, covered: str) -> str:
    r"""What a token is: the text it covers, or its bytes, as in ` \xea`, where they are no whole text.

    Args:
        tokenizer: whose token it is.
        token: its id.
        covered: the text that the tokenizer says it covers; of a part of a character, the whole character.
    """
    if token == tokenizer.unk_token_id:
        return tokenizer.unk_token
    # Bytes that are no text of their own are decoded to U+FFFD.
    raw = _bytes_of(tokenizer.convert_ids_to_tokens(token)) if "\ufffd" in tokenizer.decode([token]) else None
    return covered if raw is None else raw.decode("utf-8", errors="backslashreplace")


def _bytes_of(piece: str) -> bytes | None:
    """The bytes that a token of the vocabulary stands for; None if it is written in neither known way."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if byte := BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    of_character = {character: byte for byte, character in bytes_to_unicode().items()}
    return bytes(of_character[c] for c in piece) if of_character.keys() >= set(piece) else None
