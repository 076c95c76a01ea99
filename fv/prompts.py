"""Prompts: from pairs to text to token ids (spec section 5)."""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fv.config import TemplateConfig
from fv.encoding import Encoder
from fv.errors import TrialError
from fv.models.language_model import LanguageModel
from fv.relations import Pair

CHUNK = 100
"""Pairs that are tokenised in one call."""


def render(template: TemplateConfig, demos: Sequence[Pair], query: str) -> str:
    """Text of a prompt: the demonstrations, then the query's input."""
    shown = "".join(_fill(template.demo, pair.exA, pair.exB) for pair in demos)
    return shown + _fill(template.query, query, "")


def render_target(template: TemplateConfig, output: str) -> str:
    """Text of the right answer as it follows a prompt."""
    return _fill(template.target, "", output)


def _fill(text: str, ex_a: str, ex_b: str) -> str:
    # Piece by piece, so that braces inside a pair stay what they are.
    values = {"{exA}": ex_a, "{exB}": ex_b}
    return "".join([values.get(piece, piece) for piece in _pieces(text)])


@functools.cache
def _pieces(text: str) -> list[str]:
    """A template's text, its places for exA and exB apart."""
    return re.split(r"(\{ex[AB]\})", text)


class Tokens(NamedTuple):
    """Token ids of a prompt and of the answer that follows it."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]


def tokenize(lm: LanguageModel, prompt: str, target: str, add_special_tokens: bool) -> Tokens:
    """Token ids of `prompt` and of `target` right behind it.

    Raises:
        TrialError: the tokens of prompt + target do not start with the tokens of the prompt, or the prompt is
            longer than the model takes.
    """
    return accepted(tokenize_all(Encoder(lm, add_special_tokens), [(prompt, target)])[0])


def tokenize_all(encoder: Encoder, items: Sequence[tuple[str, str]]) -> list[Tokens | TrialError]:
    """`tokenize` for many (prompt, target) in one call of the tokenizer; an error stands where it would be raised."""
    borders = [encoder.is_border(prompt, target) for prompt, target in items]
    texts = []
    for (prompt, target), border in zip(items, borders, strict=True):
        texts += [prompt, target if border else prompt + target]
    ids = encoder.encode(texts)
    found: list[Tokens | TrialError] = []
    for (prompt, target), border, alone, rest in zip(items, borders, ids[::2], ids[1::2], strict=True):
        try:
            found.append(_parted(encoder.lm, prompt, target, alone, alone + rest if border else rest))
        except TrialError as error:
            found.append(error)
    return found


def zero_shot_tokens(
    encoder: Encoder, template: TemplateConfig, pairs: Iterable[Pair]
) -> Iterator[tuple[Pair, Tokens | TrialError]]:
    """Each pair with its tokens behind its own zero-shot prompt, or why it has none; takes a hundred pairs at once."""
    remaining = iter(pairs)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        items = [(render(template, [], pair.exA), render_target(template, pair.exB)) for pair in chunk]
        yield from zip(chunk, tokenize_all(encoder, items), strict=True)


def accepted(found: Tokens | TrialError) -> Tokens:
    """`found` if it is tokens; raises it if it is an error."""
    if isinstance(found, TrialError):
        raise found
    return found


def _parted(lm: LanguageModel, prompt: str, target: str, alone: list[int], both: list[int]) -> Tokens:
    if both[: len(alone)] != alone or len(both) == len(alone):
        same = next((i for i, (a, b) in enumerate(zip(alone, both, strict=False)) if a != b), len(alone))
        start = max(0, same - 3)
        raise TrialError(
            f"target boundary mismatch for target {target!r} after {prompt[-20:]!r}: from token {start} on, "
            f"the prompt is {alone[start:]} and prompt + target is {both[start:]}"
        )
    if len(alone) > lm.max_tokens:
        raise TrialError(f"the prompt has {len(alone)} tokens, and the model takes {lm.max_tokens}")
    return Tokens(tuple(alone), tuple(both[len(alone) :]))
