"""A prompt as text with the borders of its tokens. No torch here."""

from typing import TYPE_CHECKING, NamedTuple

from fv.data.token_text import shown_token
from fv.models.token_ids import token_spans

if TYPE_CHECKING:
    from fv.data.encoding import HasTokenizer

LEGEND = (
    "| stands between tokens, ⏎ for a newline, [ ] around the token that is scored; an answer's token that is part "
    "of a character is shown as bytes, as in \\xea."
)


class MarkedPrompt(NamedTuple):
    """A prompt and its answer as `LEGEND` says, and the number of the prompt's tokens."""

    text: str
    n_tokens: int


def mark_tokens(lm: "HasTokenizer", prompt: str, target: str, special: bool) -> MarkedPrompt:
    """Mark the borders of the tokens of a prompt with its answer.

    The answer's tokens are shown as they are, in bytes where they are parts of a character; in the prompt, a character
    stands whole at its first token.

    Args:
        lm: whose tokenizer is used.
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
            piece = shown_token(lm.tokenizer, token, text[start:end])
        piece = piece.replace("\n", "⏎") + ("\n" if "\n" in piece else "")
        border = "" if i == 0 or shown.endswith("\n") else "|"
        shown += border + (f"[{piece}]" if i == count else piece)
        covered = max(covered, end)
    return MarkedPrompt(shown, count)
