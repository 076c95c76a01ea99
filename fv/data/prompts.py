"""Prompts: from pairs to text to token ids (spec section 5)."""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from fv.config import TemplateConfig
from fv.data.encoder import Encoder
from fv.data.relations import Pair
from fv.data.snapshot import Snapshot, Trial
from fv.errors import TrialError
from fv.models.prompt import Prompt

if TYPE_CHECKING:
    from fv.models.language_model import LanguageModel

CHUNK = 100
"""Pairs that are tokenised in one call."""
TargetIds: TypeAlias = tuple[int, ...]
"""Token ids of an answer after its prompt."""


def render(template: TemplateConfig, demos: Sequence[Pair], query: str) -> str:
    """The text of a prompt: the demonstrations, then the query's input."""
    shown = "".join(_fill(template.demo, pair.exA, pair.exB) for pair in demos)
    return shown + _fill(template.query, query, "")


def render_target(template: TemplateConfig, output: str) -> str:
    """The text of the right answer as it follows a prompt."""
    return _fill(template.target, "", output)


def _fill(text: str, ex_a: str, ex_b: str) -> str:
    # A pair's text is inserted unchanged, braces and percent signs included.
    return _format(text) % {"exA": ex_a, "exB": ex_b}


@functools.cache
def _format(text: str) -> str:
    """A template's text as a format for the % operator."""
    return re.sub(r"\{(ex[AB])\}", r"%(\1)s", text.replace("%", "%%"))


def prompt_of(lm: "LanguageModel", snapshot: Snapshot, trial: Trial, kind: str) -> Prompt:
    """A trial's `clean`, `corrupted` or `zero_shot` prompt as token ids, with the trial's answer."""
    ids = lm.encode(getattr(trial, f"{kind}_prompt_str"), snapshot.meta.add_special_tokens)
    name = f"the {kind.replace('_', '-')} prompt of the trial {trial.trial_id} of {trial.q_id}"
    return Prompt(tuple(ids), tuple(lm.known(trial.target_token_ids)), name=name)


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
