"""Characters in data that act on a terminal or change the direction of text: written out, never sent."""

import re

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline, C1 included; line separators; embeddings, overrides and isolates of
direction; lone surrogates, which no encoding accepts. Direction marks stay: words are written with them."""


def visible(text: str) -> str:
    r"""The text with control characters and changes of direction written as escapes, such as `\x1b` and `\u202e`."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
