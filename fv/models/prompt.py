"""A prompt as a model reads it."""

from typing import NamedTuple


class Prompt(NamedTuple):
    """A prompt as token ids, and the first token id of its right answer."""

    token_ids: tuple[int, ...]
    target: int
