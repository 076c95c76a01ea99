"""Rendering: a drawn query and its demonstrations as prompts, with token ids and token spans (spec section 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fv.config import TemplateConfig
from fv.data.encoder import Encoder
from fv.data.prompt_kinds import CLEAN, CORRUPTED, PROMPT_KINDS, ZERO_SHOT
from fv.data.relations import Pair
from fv.data.targets import TargetIds, accepted, target_tokens
from fv.data.templates import pieces_of, render, render_target
from fv.data.token_classes import TokenSpan, spans_of
from fv.data.trial import Draw, NamedPrompt, Trial
from fv.errors import TrialError
from fv.models.site import TokenClass
from fv.models.token_ids import Spans


@dataclass(frozen=True)
class RenderedPrompt:
    """One prompt of a trial as text; its tokens are found when they are first used.

    Attributes:
        text: the prompt.
        target: the right answer as it follows the prompt.
        template: the template.
        demos: the demonstrations that it shows.
        query: the query's input.
        encoder: encodes it.
    """

    text: str
    target: str
    template: TemplateConfig
    demos: Sequence[Pair]
    query: str
    encoder: Encoder

    @cached_property
    def _tokens(self) -> Spans:
        return self.encoder.spans(self.text)

    @property
    def token_ids(self) -> list[int]:
        """Token ids of the prompt, special tokens included."""
        return self._tokens.token_ids

    @cached_property
    def spans(self) -> list[TokenSpan]:
        """The spans of its tokens, in order; each token is in exactly one."""
        return spans_of(pieces_of(self.template, self.demos, self.query), self._tokens.spans)

    def tokens_of(self, token_class: TokenClass) -> list[int]:
        """The positions of all tokens of one class, from 0."""
        return [at for span in self.spans if span.token_class is token_class for at in range(span.start, span.stop)]


def rendered(trial: Draw, template: TemplateConfig, encoder: Encoder) -> dict[str, RenderedPrompt]:
    """Render all prompts of a trial, or of a draw that is to become one; nothing is drawn and nothing is checked.

    Example:
        >>> prompts = rendered(trial, TemplateConfig(), Encoder(lm, special=False))
        >>> prompts["zero_shot"].text
        'Q: hot\\nA:'
    """
    target = render_target(template, trial.query.exB)
    return {
        kind: RenderedPrompt(
            render(template, demos, trial.query.exA), target, template, demos, trial.query.exA, encoder
        )
        for kind, demos in trial.shown.items()
    }


def made_trial(draw: Draw, template: TemplateConfig, encoder: Encoder) -> Trial:
    """Make the trial of a draw; a trial is made again, with the same prompts under another template.

    Raises:
        TrialError: the answer's tokens do not follow a prompt's, or differ from prompt to prompt, or a prompt is longer
            than the model takes.
    """
    prompts = rendered(draw, template, encoder)
    target_ids = list(_answer(draw, prompts, encoder))
    more = {
        kind: NamedPrompt(demos=list(prompt.demos), prompt_str=prompt.text)
        for kind, prompt in prompts.items()
        if kind not in PROMPT_KINDS
    }
    return Trial(
        **{name: getattr(draw, name) for name in Draw.model_fields},
        clean_prompt_str=prompts[CLEAN].text,
        corrupted_prompt_str=prompts[CORRUPTED].text,
        zero_shot_prompt_str=prompts[ZERO_SHOT].text,
        target_str=render_target(template, draw.query.exB),
        target_first_token_id=target_ids[0],
        target_token_ids=target_ids,
        more_prompts=more,
    )


def _answer(draw: Draw, prompts: Mapping[str, RenderedPrompt], encoder: Encoder) -> TargetIds:
    """The answer's token ids, which are the same after all prompts."""
    answers = target_tokens(encoder, [(prompt.text, prompt.target) for prompt in prompts.values()])
    found = {accepted(ids) for ids in answers}
    if len(found) > 1:
        raise TrialError(f"the answer {draw.query.exB!r} has other tokens after other prompts: {sorted(found)}")
    return found.pop()
