"""Classes of tokens: which tokens of a prompt hold the query, a demonstration's input or output, or the template."""

import bisect
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fv.data.templates import Piece
from fv.models.site import TokenClass


class TokenSpan(NamedTuple):
    """Consecutive tokens of one class and one piece of the text: those from `start` up to `stop`, without it."""

    token_class: TokenClass
    start: int
    stop: int


def spans_of(pieces: Sequence[Piece], offsets: Sequence[tuple[int, int]]) -> list[TokenSpan]:
    """Find the spans of a prompt's tokens; each token is in exactly one span.

    A token that holds parts of two pieces belongs to the piece of its first visible character, so ` hot` is of the
    class of `hot`. The last token is a span of its own.

    Args:
        pieces: the pieces of the prompt's text.
        offsets: start and end of each token in the text, in characters; both 0 for a token that the tokenizer adds.

    Example:
        >>> spans_of([Piece(TokenClass.query, "hot"), Piece(TokenClass.template, " =")], [(0, 3), (3, 5)])
        [TokenSpan(token_class=<TokenClass.query: 'query'>, start=0, stop=1), ...]
    """
    text = "".join(piece.text for piece in pieces)
    starts = list(itertools.accumulate((len(piece.text) for piece in pieces[:-1]), initial=0))
    owners = [_owner(text, starts, *offset) for offset in offsets]
    if not owners:
        return []
    found = list(_runs(pieces, owners[:-1]))
    return [*found, TokenSpan(TokenClass.last, len(owners) - 1, len(owners))]


def _owner(text: str, starts: Sequence[int], start: int, end: int) -> int:
    """The number of the piece that a token belongs to; -1 if the tokenizer added the token."""
    if end == 0:
        return -1
    covered = text[start:end]
    visible = len(covered) - len(covered.lstrip())
    # Some tokenizers leave white space out of offsets: a token of white space alone then ends where it starts.
    at = start + visible if visible < len(covered) else min(start, end - 1)
    return bisect.bisect_right(starts, at) - 1


def _runs(pieces: Sequence[Piece], owners: Sequence[int]) -> Iterator[TokenSpan]:
    """The spans of consecutive tokens of one piece."""
    start = 0
    for owner, run in itertools.groupby(owners):
        stop = start + len(list(run))
        yield TokenSpan(TokenClass.special if owner < 0 else pieces[owner].token_class, start, stop)
        start = stop
