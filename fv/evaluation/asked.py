"""A relation's trials as they are asked: test and dev trials in every kind of prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fv.data.shown_answers import answers_shown
from fv.data.snapshot import Snapshot, Trial
from fv.evaluation.candidate import UNEDITED
from fv.evaluation.questions import RelationQuestions
from fv.evaluation.selection import DEV, TEST
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


@dataclass(frozen=True)
class Asked:
    """A relation's trials as they are asked.

    Attributes:
        questions: how a trial is asked.
        test: the trials that are reported.
        prompts: {kind of prompt: the test trials' prompts}.
        shown: {trial_id: whether its right answer stands in a fit prompt}.
        dev: {kind of prompt: the prompts of the trials that cells are chosen on}; empty lists where there are none.
    """

    questions: RelationQuestions
    test: Sequence[Trial]
    prompts: dict[str, list[Prompt]]
    shown: dict[str, bool]
    dev: dict[str, list[Prompt]]

    @classmethod
    def of(cls, lm: LanguageModel, snapshot: Snapshot, q_id: str, parts: Mapping[str, str]) -> "Asked":
        """Ask the trials of a relation that have a part: {trial_id: `dev` or `test`}."""
        questions = RelationQuestions(lm, snapshot, q_id)
        test, dev = ([t for t in questions.trials if parts.get(t.trial_id) == part] for part in (TEST, DEV))
        prompts, on_dev = (
            {kind: [questions.ask(trial, kind) for trial in trials] for kind in UNEDITED.values()}
            for trials in (test, dev)
        )
        return cls(questions, test, prompts, answers_shown(snapshot, q_id), on_dev)

    @property
    def n_dev(self) -> int:
        """How many trials cells are chosen on."""
        return len(self.dev["zero_shot"])

    def denominators(self, rows: pd.DataFrame) -> dict[str, Any]:
        """What numbers on the relation are out of, and its chances; `rows` are the trial rows of its conditions."""
        few_shot = rows[rows["condition"] == "few_shot"]
        return {
            "eval_qid": self.questions.q_id,
            "n_dev": self.n_dev,
            "n_test": len(self.test),
            "n_few_shot_correct": int(few_shot["few_shot_correct"].sum()),
            "n_outputs": self.questions.n_outputs,
            "majority_accuracy": self.questions.majority_accuracy(list(self.test)),
            **{f"constant_{name}": share for name, share in self.questions.constant_accuracy(self.test).items()},
            **{f"repeat_{name}": share for name, share in self.questions.repeat_accuracy(self.test).items()},
            "n_answer_shown": sum(self.shown[trial.trial_id] for trial in self.test),
            "target_in_corrupted": sum(trial.target_in_corrupted for trial in self.test) / len(self.test),
        }
