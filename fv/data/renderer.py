"""The renderer of trials: a query and its demonstrations as text and token ids (spec section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fv.config import TemplateConfig
from fv.data.encoder import Encoder
from fv.data.prompts import TargetIds, accepted, render, render_target, target_tokens
from fv.data.relations import Pair, normalise
from fv.data.snapshot import Trial, WrongOutputs
from fv.errors import TrialError


@dataclass(frozen=True)
class Renderer:
    """Makes trials from drawn pairs.

    Attributes:
        encoder: encodes their prompts.
        template: turns pairs into text.
    """

    encoder: Encoder
    template: TemplateConfig

    def trial(
        self,
        trial_id: str,
        q_id: str,
        split: Literal["fit", "eval"],
        query: Pair,
        demos: Sequence[Pair],
        wrong: Sequence[Pair],
        corruption: WrongOutputs,
    ) -> Trial:
        """Make the trial of a query with demonstrations, right and wrong.

        Raises:
            TrialError: the answer's tokens do not follow the prompt's, or differ from prompt to prompt.
        """
        (clean, corrupted, zero_shot), answers = self.tokenized(query, demos, wrong, ())
        found = set(answers)
        if len(found) > 1:
            raise TrialError(f"the answer {query.exB!r} has other tokens after other prompts: {sorted(found)}")
        target_ids = list(found.pop())
        return Trial(
            trial_id=trial_id,
            q_id=q_id,
            split=split,
            demos=list(demos),
            corrupted_demos=list(wrong),
            corruption=corruption,
            target_in_corrupted=any(normalise(demo.exB) == normalise(query.exB) for demo in wrong),
            query=query,
            clean_prompt_str=clean,
            corrupted_prompt_str=corrupted,
            zero_shot_prompt_str=zero_shot,
            target_str=render_target(self.template, query.exB),
            target_first_token_id=target_ids[0],
            target_token_ids=target_ids,
        )

    def tokenized(self, query: Pair, *shown: Sequence[Pair]) -> tuple[list[str], list[TargetIds]]:
        """The query's prompt with each list of `shown` demonstrations, and the answer's token ids after each prompt.

        Raises:
            TrialError: the answer's tokens do not follow a prompt's.
        """
        texts = [render(self.template, demos, query.exA) for demos in shown]
        target = render_target(self.template, query.exB)
        found = target_tokens(self.encoder, [(text, target) for text in texts])
        return texts, [accepted(ids) for ids in found]
