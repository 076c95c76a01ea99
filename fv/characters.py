"""Characters of data that act on a terminal, or turn the text around them: shown, and never sent."""

import re

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and newline, C1 among them; separators of lines; embeddings, overrides and isolates of
direction; halves of surrogate pairs, which no encoding takes. Marks of direction stay: words are written with them."""


def visible(text: str) -> str:
    r"""A text whose control characters and changes of direction are written out, as in `\x1b` and `\u202e`."""
    return _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
