"""A prompt as text with the borders of its tokens. No torch here."""

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from fv.models.token_ids import token_spans

if TYPE_CHECKING:
    from fv.data.encoder import HasTokenizer

LEGEND = (
    "| stands between tokens, ⏎ for a newline, [ ] around the token that is scored; an answer's token that is part "
    "of a character is shown as bytes, as in \\xea."
)

BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""The name that a tokenizer with byte fallback gives to the token of a byte."""


class MarkedPrompt(NamedTuple):
    """A prompt and its answer, marked as `LEGEND` says, and the number of the prompt's tokens."""

    text: str
    n_tokens: int


def mark_tokens(lm: "HasTokenizer", prompt: str, target: str, special: bool) -> MarkedPrompt:
    """Mark the borders of the tokens of a prompt with its answer.

    Each of the answer's tokens is shown alone, as bytes if it is a part of a character; in the prompt, a character is
    shown whole at its first token.

    Args:
        lm: the model, or another holder of a tokenizer.
        prompt: the prompt.
        target: the answer.
        special: whether the prompt gets special tokens.
    """
    text = prompt + target
    tokens = token_spans(lm.tokenizer, text, special)
    count = sum(end <= len(prompt) for _, end in tokens.spans)  # no token of a trial spans the border
    shown = ""
    covered = 0
    for i, (token, (start, end)) in enumerate(zip(*tokens, strict=True)):
        if start == end:  # a special token covers no text
            piece = "<special>"
        elif i < count:
            piece = text[max(start, covered) : end] or "…"
        else:
            piece = _shown_token(lm.tokenizer, token, text[start:end])
        piece = piece.replace("\n", "⏎") + ("\n" if "\n" in piece else "")
        border = "" if i == 0 or shown.endswith("\n") else "|"
        shown += border + (f"[{piece}]" if i == count else piece)
        covered = max(covered, end)
    return MarkedPrompt(shown, count)


def _shown_token(tokenizer: Any, token: int, covered: str) -> str:
    r"""A token as text: the text that it covers, or its bytes, as in ` \xea`, if it holds a part of a character.

    Args:
        tokenizer: the tokenizer.
        token: the id of the token.
        covered: the text that the token covers by the tokenizer's offsets: for a part of a character, all of it.
    """
    if token == tokenizer.unk_token_id:
        return tokenizer.unk_token
    # Bytes that are not valid text alone are decoded to U+FFFD.
    raw = _bytes_of(tokenizer.convert_ids_to_tokens(token)) if "\ufffd" in tokenizer.decode([token]) else None
    return covered if raw is None else raw.decode("utf-8", errors="backslashreplace")


def _bytes_of(piece: str) -> bytes | None:
    """The bytes that a token of the vocabulary stands for; None if it has neither of the two known spellings."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    if byte := BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)])
    of_character = {character: byte for byte, character in bytes_to_unicode().items()}
    return bytes(of_character[c] for c in piece) if of_character.keys() >= set(piece) else None
