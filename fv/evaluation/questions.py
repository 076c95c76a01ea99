"""How a relation's trials are asked: with whole answers, and the relation's outputs that would be wrong there."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from fv.config import TemplateConfig
from fv.data.corruption import OutputTable
from fv.data.encoder import Encoder
from fv.data.kin_groups import kin_groups
from fv.data.prompts import prompt_of, render_target, target_tokens, zero_shot_targets
from fv.data.relations import Pair, normalise
from fv.data.snapshot import Snapshot, Trial
from fv.errors import TrialError
from fv.interventions.metrics import majority_accuracy
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt


class RelationQuestions:
    """Asks the trials of one relation, as far as the snapshot shows it.

    Args:
        lm: the model whose tokenizer is used.
        snapshot: the trials.
        q_id: the relation.
    """

    def __init__(self, lm: LanguageModel, snapshot: Snapshot, q_id: str) -> None:
        self.lm = lm
        self.snapshot = snapshot
        self.q_id = q_id
        self.template = TemplateConfig(**snapshot.meta.template)
        self.trials = [trial for trial in snapshot.trials if trial.q_id == q_id]

    def ask(self, trial: Trial, kind: str) -> Prompt:
        """A trial's `zero_shot`, `clean` or `corrupted` prompt with what is right and wrong behind it."""
        return prompt_of(self.lm, self.snapshot, trial, kind)._replace(wrong=self._wrong_tokens(trial))

    @property
    def ending(self) -> str:
        """The text that ends an answer in a demonstration."""
        return self.template.demo.rpartition("{exB}")[2]

    @property
    def n_outputs(self) -> int:
        """Distinct outputs that the snapshot shows."""
        return len(self._first_tokens)

    def majority_accuracy(self, trials: list[Trial]) -> float:
        """Accuracy on `trials` of always giving the output that is most frequent among the fit trials' pairs.

        Pairs that `trials` ask for, and their kin (`fv.data.kin_groups`), are not counted: where fit and eval
        trials are the same they would tell the answers. NaN where no pair is left to count.
        """
        asked = [trial.query for trial in trials]
        pairs = _shown([trial for trial in self.trials if trial.split == "fit"])
        groups = kin_groups([*asked, *pairs])
        known = np.isin(groups[len(asked) :], groups[: len(asked)])
        seen = [normalise(pair.exB) for pair, is_known in zip(pairs, known, strict=True) if not is_known]
        return majority_accuracy(seen, [normalise(pair.exB) for pair in asked]) if seen else float("nan")

    def constant_accuracy(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Accuracy on `trials` of the best constant answer, chosen with hindsight: no constant answer has a higher one.

        Returns:
            `top1`, the share of the most frequent first target token, and `exact_match`, the share of the most frequent
            whole answer in normal form (`fv.data.relations.normalise`); both NaN without trials.
        """
        tokens = Counter(trial.target_first_token_id for trial in trials)
        answers = Counter(normalise(trial.query.exB) for trial in trials)
        return {"top1": _share_of_most(tokens), "exact_match": _share_of_most(answers)}

    def repeat_accuracy(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Accuracy on `trials` of repeating the query.

        Returns:
            `top1`, the share of trials whose query, written as an answer after its zero-shot prompt, begins with the
            target's first token, and `exact_match`, the share of those whose answer is the query, letter by letter;
            both NaN without trials. A query that the tokenizer cannot part from the prompt counts as another token.
        """
        encoder = Encoder(self.lm, self.snapshot.meta.add_special_tokens)
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
        return _shown(self.trials)

    @cached_property
    def _outputs(self) -> OutputTable:
        return OutputTable(self._pairs)

    @cached_property
    def _first_tokens(self) -> dict[str, int]:
        """The first token of each output, in normal form, behind the prompt of an input it is right for."""
        tokens: dict[str, int] = {}
        encoder = Encoder(self.lm, self.snapshot.meta.add_special_tokens)
        for pair, found in zero_shot_targets(encoder, self.template, self._pairs):
            if not isinstance(found, TrialError):  # an error is of an output that no trial could ask for
                tokens.setdefault(normalise(pair.exB), found[0])
        return tokens

    def _wrong_tokens(self, trial: Trial) -> tuple[int, ...]:
        right = self._outputs.right_for(trial.query)
        wrong = {token for output, token in self._first_tokens.items() if output not in right}
        # An output that shares its first token with a right one cannot be told from it.
        known = {self._first_tokens[output] for output in right if output in self._first_tokens}
        return tuple(sorted(wrong - known - {trial.target_first_token_id}))


def _shown(trials: Iterable[Trial]) -> list[Pair]:
    """The distinct pairs that clean prompts show."""
    return list(dict.fromkeys(pair for trial in trials for pair in (trial.query, *trial.demos)))


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else float("nan")


def _share_of_most(counts: Counter[Any]) -> float:
    return max(counts.values()) / counts.total() if counts else float("nan")
