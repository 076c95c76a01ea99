"""Targets: the token ids of right answers after their prompts (spec section 5)."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from fv.config import TemplateConfig
from fv.data.encoder import Encoder
from fv.data.relations import Pair
from fv.data.templates import render, render_target
from fv.errors import TrialError

CHUNK = 100
"""Pairs that are tokenised in one call."""
TargetIds: TypeAlias = tuple[int, ...]
"""Token ids of an answer after its prompt."""


def target_tokens(encoder: Encoder, items: Sequence[tuple[str, str]]) -> list[TargetIds | TrialError]:
    """Token ids of each target after its prompt, for many (prompt, target) in one call.

    The result has an error in place of a target whose tokens are mixed with its prompt's (the tokens of prompt + target
    do not start with those of the prompt), or whose prompt is longer than the model takes.
    """
    # A prompt is tokenised only if its length or its border with the target is in doubt.
    apart = [encoder.is_apart(prompt, target) for prompt, target in items]
    doubtful = (item for item, clear in zip(items, apart, strict=True) if not clear)
    ids = iter(encoder.encode([text for prompt, target in doubtful for text in (prompt, prompt + target)]))
    found: list[TargetIds | TrialError] = []
    for (prompt, target), clear in zip(items, apart, strict=True):
        try:
            found.append(
                tuple(encoder.encode_apart(target)) if clear else _parted(encoder, prompt, target, next(ids), next(ids))
            )
        except TrialError as error:
            found.append(error)
    return found


def zero_shot_targets(
    encoder: Encoder, template: TemplateConfig, pairs: Iterable[Pair]
) -> Iterator[tuple[Pair, TargetIds | TrialError]]:
    """Each pair with its target's tokens after its own zero-shot prompt, or with an error; `CHUNK` pairs per call."""
    remaining = iter(pairs)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        items = [(render(template, [], pair.exA), render_target(template, pair.exB)) for pair in chunk]
        yield from zip(chunk, target_tokens(encoder, items), strict=True)


def accepted(found: TargetIds | TrialError) -> TargetIds:
    """Return `found` if it is tokens.

    Raises:
        TrialError: it is an error.
    """
    if isinstance(found, TrialError):
        raise found
    return found


def _parted(encoder: Encoder, prompt: str, target: str, alone: list[int], both: list[int]) -> TargetIds:
    """The tokens of `both`, of prompt + target, that follow `alone`, the tokens of the prompt.

    Raises:
        TrialError: `both` does not begin with `alone` and go on, or the prompt is too long for the model.
    """
    if both[: len(alone)] != alone or len(both) == len(alone):
        same = next((i for i, (a, b) in enumerate(zip(alone, both, strict=False)) if a != b), len(alone))
        start = max(0, same - 3)
        advice = f"; the tokenizer closes every text with a token; {encoder.name}=false leaves it out"
        raise TrialError(
            f"target boundary mismatch for target {target!r} after {prompt[-20:]!r}: from token {start} on, "
            f"the prompt is {alone[start:]} and prompt + target is {both[start:]}"
            f"{advice if encoder.closes else ''}"
        )
    if len(alone) > (max_tokens := encoder.lm.max_tokens):
        raise TrialError(f"the prompt has {len(alone)} tokens, and the model takes {max_tokens}")
    return tuple(both[len(alone) :])
