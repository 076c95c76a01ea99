"""Generation of continuations by greedy decoding: always the likeliest token."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from fv.errors import ConfigError, ModelError, warn
from fv.interventions.editing import edits_at_work
from fv.interventions.finite_check import FiniteCheck
from fv.models.engine_mode import engine_mode
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.models.special_tokens import adds_special_tokens

Text = str | Prompt
"""A prompt, as text (encoded with the special tokens that the tokenizer adds) or as token ids."""


def generate(lm: LanguageModel, prompts: Text | Sequence[Text], max_new_tokens: int = 20) -> str | list[str]:
    """Greedy continuations of one or several prompts; see `EditableModel.generate`.

    Raises:
        ConfigError: `prompts` are no prompts, or `max_new_tokens` is not a whole number of 1 or more.
        ModelError: a prompt is empty or too long, the tokenizer adds a token after texts, or the model returns numbers
            that are not finite.
    """
    if isinstance(max_new_tokens, bool) or not isinstance(max_new_tokens, int) or max_new_tokens < 1:
        raise ConfigError(f"max_new_tokens={max_new_tokens!r} must be a whole number, 1 or more.")
    alone = isinstance(prompts, Text)
    several = [prompts] if isinstance(prompts, Text) else _checked(prompts)
    if not several:
        return []
    encoded = [_token_ids(lm, prompt) for prompt in several]
    _check_lengths(lm, encoded, max_new_tokens)
    _warn_of_endings(lm, several)
    found = _continuations(lm, encoded, max_new_tokens)
    return found[0] if alone else found


def end_tokens(lm: LanguageModel) -> set[int]:
    """The tokens that end a text, by the model's generation settings and by the tokenizer."""
    of_model: Any = getattr(lm.model.generation_config, "eos_token_id", None)
    stops = {*(of_model if isinstance(of_model, list) else [of_model]), getattr(lm.tokenizer, "eos_token_id", None)}
    return stops - {None}


def _checked(prompts: Any) -> list[Text]:
    if not isinstance(prompts, list | tuple):
        raise ConfigError(f"prompts is a {type(prompts).__name__}: give a text, a Prompt, or a list of them.")
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, Text):
            raise ConfigError(f"prompts[{i}] is a {type(prompt).__name__}: give a text or a Prompt.")
    return list(prompts)


def _token_ids(lm: LanguageModel, prompt: Text) -> list[int]:
    if isinstance(prompt, Prompt):
        return list(prompt.token_ids)
    plain = lm.encode(prompt, add_special_tokens=False)
    if not adds_special_tokens(lm.tokenizer, "auto"):
        return plain
    framed = lm.encode(prompt, add_special_tokens=True)
    if plain and framed[-1] != plain[-1]:
        raise ModelError(
            f"The tokenizer of {lm.name} closes every text with a token, after which nothing can follow: give each "
            "prompt as a Prompt, with its token ids."
        )
    return framed


def _check_lengths(lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    for i, token_ids in enumerate(prompts):
        if not token_ids:
            raise ModelError(f"prompts[{i}] has no token to continue.")
        if len(token_ids) + max_new_tokens > lm.max_tokens:
            raise ModelError(
                f"prompts[{i}] has {len(token_ids)} tokens, and with max_new_tokens={max_new_tokens} that is more than "
                f"the {lm.max_tokens} positions of {lm.name}."
            )


def _warn_of_endings(lm: LanguageModel, prompts: Sequence[Text]) -> None:
    """Warn of prompts that do not end like the prompts of an added vector's template."""
    texts = [lm.tokenizer.decode(prompt.token_ids) if isinstance(prompt, Prompt) else prompt for prompt in prompts]
    for ending in sorted({ending for edit in edits_at_work(lm.model) for ending in edit.prompt_endings}):
        if others := [text for text in texts if not text.endswith(ending)]:
            warn(
                f"{len(others)} of {len(texts)} prompts do not end with {ending!r}, as those of the added vector's "
                f"template do: {others[0][-40:]!r}. It may act differently there."
            )


def _continuations(lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[str]:
    """Continuations of prompts of any lengths, in one batch, padded on the left."""
    stops, longest = end_tokens(lm), max(map(len, prompts))
    # Padding is never attended to, so any valid token id can stand there.
    padding = min(stops, default=0)
    rows = [[padding] * (longest - len(ids)) + list(ids) for ids in prompts]
    mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]
    config = GenerationConfig(
        max_new_tokens=max_new_tokens, do_sample=False, pad_token_id=padding, eos_token_id=sorted(stops) or None
    )
    with engine_mode(lm.model), _generation_settings(lm.model, config):
        said = lm.model.generate(
            torch.tensor(rows, device=lm.device),  # (n_prompts, longest)
            attention_mask=torch.tensor(mask, device=lm.device),
            generation_config=config,
            logits_processor=LogitsProcessorList([_FiniteLogits(lm, prompts)]),
        )[:, longest:]  # (n_prompts, n_new)
    return [lm.tokenizer.decode(_until(ids, stops), skip_special_tokens=True) for ids in said.tolist()]


class _FiniteLogits(LogitsProcessor):
    """Checks that the logits of every step are finite, and returns them unchanged."""

    def __init__(self, lm: LanguageModel, prompts: Sequence[Sequence[int]]) -> None:
        self._check = FiniteCheck(lm, [Prompt(tuple(ids), (0,)) for ids in prompts])
        self._edits = edits_at_work(lm.model)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._check.edited_together(scores.amax(-1), self._edits)  # scores: (n_prompts, vocabulary)
        return scores


def _until(token_ids: list[int], stops: set[int]) -> list[int]:
    """The tokens before the first that ends a text."""
    end = next((i for i, token in enumerate(token_ids) if token in stops), len(token_ids))
    return token_ids[:end]


@contextmanager
def _generation_settings(model: Any, config: GenerationConfig) -> Iterator[None]:
    """Replace a model's own settings by `config`: they would fill in what it leaves out (penalties, samplers)."""
    before, model.generation_config = model.generation_config, config
    try:
        yield
    finally:
        model.generation_config = before
