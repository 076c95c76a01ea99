"""Questions: the prompts of a relation's trials, with the right answer and the relation's outputs that are wrong."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fv.data.corruption import OutputTable
from fv.data.kin_groups import kin_groups
from fv.data.prompt_kinds import ZERO_SHOT
from fv.data.prompts import prompt_of
from fv.data.relations import Pair, normalise
from fv.data.shown_answers import answers_shown
from fv.data.snapshot import Snapshot
from fv.data.targets import target_tokens, zero_shot_targets
from fv.data.templates import render_target
from fv.data.trial import Trial
from fv.errors import TrialError
from fv.evaluation.candidate import UNEDITED
from fv.evaluation.selection import DEV, TEST
from fv.interventions.metrics import majority_accuracy
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.tables import TableRow


class RelationQuestions:
    """Maker of the prompts of one relation's trials, from the pairs that the snapshot contains.

    Args:
        lm: the model whose tokenizer is used.
        snapshot: the trials.
        q_id: the relation.
    """

    def __init__(self, lm: LanguageModel, snapshot: Snapshot, q_id: str) -> None:
        self.lm = lm
        self.snapshot = snapshot
        self.q_id = q_id
        self.template = snapshot.template
        self.trials = [trial for trial in snapshot.trials if trial.q_id == q_id]

    def ask(self, trial: Trial, kind: str) -> Prompt:
        """Prompt of a trial (`Trial.prompts`), with its right answer and wrong first tokens."""
        return prompt_of(self.lm, self.snapshot, trial, kind)._replace(wrong=self._wrong_tokens(trial))

    @property
    def ending(self) -> str:
        """Text that follows an answer in a demonstration."""
        return self.template.demo.rpartition("{exB}")[2]

    @property
    def n_outputs(self) -> int:
        """Number of distinct outputs of the relation in the snapshot."""
        return len(self._first_tokens)

    def majority_accuracy(self, trials: list[Trial]) -> float:
        """Accuracy on `trials` of always answering with the most frequent output among the fit trials' pairs.

        The queries of `trials`, and related pairs (`fv.data.trials.kin_groups`), are not counted: if fit and eval
        trials are the same, they would give the answers away. NaN if no pair is left to count.
        """
        asked = [trial.query for trial in trials]
        pairs = _shown([trial for trial in self.trials if trial.split == "fit"])
        groups = kin_groups([*asked, *pairs])
        known = np.isin(groups[len(asked) :], groups[: len(asked)])
        seen = [normalise(pair.exB) for pair, is_known in zip(pairs, known, strict=True) if not is_known]
        return majority_accuracy(seen, [normalise(pair.exB) for pair in asked]) if seen else float("nan")

    def constant_accuracy(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Accuracy on `trials` of the best constant answer, chosen with hindsight, so an upper limit for constants.

        Returns:
            `top1`: the share of the most frequent first target token. `exact_match`: the share of the most frequent
            whole answer in normal form (`fv.data.relations.normalise`). Both are NaN without trials.
        """
        tokens = Counter(trial.target_first_token_id for trial in trials)
        answers = Counter(normalise(trial.query.exB) for trial in trials)
        return {"top1": _share_of_most(tokens), "exact_match": _share_of_most(answers)}

    def repeat_accuracy(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Accuracy on `trials` of repeating the query as the answer.

        Returns:
            `top1`: the share of trials whose query, written as the answer after its zero-shot prompt, begins with the
            target's first token. `exact_match`: the share of trials whose answer equals the query, letter by letter.
            Both are NaN without trials. A query that the tokenizer merges with the prompt counts as wrong in `top1`.
        """
        encoder = self.snapshot.encoder(self.lm)
        items = [(t.zero_shot_prompt_str, render_target(self.template, t.query.exA)) for t in trials]
        found = target_tokens(encoder, items)
        same = [
            not isinstance(ids, TrialError) and ids[0] == trial.target_first_token_id
            for trial, ids in zip(trials, found, strict=True)
        ]
        exact = [trial.query.exA == trial.query.exB for trial in trials]
        return {"top1": _share(same), "exact_match": _share(exact)}

    @cached_property
    def _pairs(self) -> list[Pair]:
        return self.snapshot.pairs(self.q_id)

    @cached_property
    def _outputs(self) -> OutputTable:
        return OutputTable(self._pairs)

    @cached_property
    def _first_tokens(self) -> dict[str, int]:
        """{output in normal form: its first token, after the prompt of an input that it answers}."""
        tokens: dict[str, int] = {}
        encoder = self.snapshot.encoder(self.lm)
        for pair, found in zero_shot_targets(encoder, self.template, self._pairs):
            if not isinstance(found, TrialError):  # an output with an error cannot be the answer of any trial
                tokens.setdefault(normalise(pair.exB), found[0])
        return tokens

    def _wrong_tokens(self, trial: Trial) -> tuple[int, ...]:
        right = self._outputs.right_for(trial.query)
        wrong = {token for output, token in self._first_tokens.items() if output not in right}
        # An output whose first token is also that of a right output is not counted as wrong.
        known = {self._first_tokens[output] for output in right if output in self._first_tokens}
        return tuple(sorted(wrong - known - {trial.target_first_token_id}))


@dataclass(frozen=True)
class RelationPrompts:
    """Prompts of one relation's test and dev trials, of every kind.

    Attributes:
        questions: the maker of the prompts.
        trials: the test trials.
        shown: {trial_id: whether a fit prompt contains its right answer}.
        test: {kind of prompt: prompts of the test trials}, which are reported.
        dev: {kind of prompt: prompts of the dev trials}, which choose cells; empty lists if there are none.
    """

    questions: RelationQuestions
    trials: Sequence[Trial]
    shown: dict[str, bool]
    test: dict[str, list[Prompt]]
    dev: dict[str, list[Prompt]]

    @classmethod
    def of(cls, lm: LanguageModel, snapshot: Snapshot, q_id: str, parts: Mapping[str, str]) -> "RelationPrompts":
        """Make the prompts of the relation's trials that are in `parts`, {trial_id: `dev` or `test`}."""
        questions = RelationQuestions(lm, snapshot, q_id)
        on_test, on_dev = ([t for t in questions.trials if parts.get(t.trial_id) == part] for part in (TEST, DEV))
        test, dev = (
            {kind: [questions.ask(trial, kind) for trial in trials] for kind in UNEDITED.values()}
            for trials in (on_test, on_dev)
        )
        return cls(questions, on_test, answers_shown(snapshot, q_id), test, dev)

    @property
    def n_dev(self) -> int:
        """Number of dev trials."""
        return len(self.dev[ZERO_SHOT])

    def denominators(self, rows: pd.DataFrame) -> TableRow:
        """Counts and chance levels that put the relation's numbers into proportion, as columns.

        Args:
            rows: trial rows of the relation's conditions.
        """
        few_shot = rows[rows["condition"] == "few_shot"]
        return {
            "eval_qid": self.questions.q_id,
            "n_dev": self.n_dev,
            "n_test": len(self.trials),
            "n_few_shot_correct": int(few_shot["few_shot_correct"].sum()),
            "n_outputs": self.questions.n_outputs,
            "majority_accuracy": self.questions.majority_accuracy(list(self.trials)),
            **{f"constant_{name}": share for name, share in self.questions.constant_accuracy(self.trials).items()},
            **{f"repeat_{name}": share for name, share in self.questions.repeat_accuracy(self.trials).items()},
            "n_answer_shown": sum(self.shown[trial.trial_id] for trial in self.trials),
            "target_in_corrupted": sum(trial.target_in_corrupted for trial in self.trials) / len(self.trials),
        }


def _shown(trials: Iterable[Trial]) -> list[Pair]:
    """Distinct pairs that the clean prompts contain."""
    return list(dict.fromkeys(pair for trial in trials for pair in (trial.query, *trial.demos)))


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else float("nan")


def _share_of_most(counts: Counter[Any]) -> float:
    return max(counts.values()) / counts.total() if counts else float("nan")
