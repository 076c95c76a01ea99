"""Prompts of trials as token ids."""

from typing import TYPE_CHECKING

from fv.data.prompt_kinds import in_words
from fv.data.snapshot import Snapshot
from fv.data.trial import Trial
from fv.models.prompt import Prompt

if TYPE_CHECKING:
    from fv.models.language_model import LanguageModel


def prompt_of(lm: "LanguageModel", snapshot: Snapshot, trial: Trial, kind: str) -> Prompt:
    """A trial's prompt of one kind (`Trial.prompts`) as token ids, with the trial's answer.

    Raises:
        TrialError: the trial has no such prompt.
    """
    ids = lm.encode(trial.prompt(kind), snapshot.meta.add_special_tokens)
    name = f"the {in_words(kind)} prompt of the trial {trial.trial_id} of {trial.q_id}"
    return Prompt(tuple(ids), tuple(lm.known(trial.target_token_ids)), name=name)
