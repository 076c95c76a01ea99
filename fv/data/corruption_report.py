"""Reports on the corrupted prompts of a relation, with notes and warnings (spec section 5)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fv.data.corruption import OutputTable
from fv.data.relations import Pair, normalise
from fv.data.trial import Trial

FEW_OUTPUTS = 3
"""Number of outputs at or below which a prompt without right outputs says much about the right one."""


@dataclass(frozen=True)
class CorruptionReport:
    """The corrupted prompts of one relation's trials.

    Attributes:
        q_id: the relation.
        n_trials: its trials, fit and eval.
        n_outputs: the relation's outputs that differ in normal form.
        n_deranged: prompts whose outputs are rearranged so that none is right.
        n_relation: prompts whose outputs are drawn from the relation, because no arrangement of their own is all wrong.
        n_permuted: prompts whose outputs are a plain permutation.
        right: mean over the trials of the share of demonstrations whose output is right, judged by the trials' pairs.
        n_visible_clean: clean prompts in which the query's right answer is a demonstration's output.
        n_visible: corrupted prompts in which that answer is one.
    """

    q_id: str
    n_trials: int
    n_outputs: int
    n_deranged: int
    n_relation: int
    n_permuted: int
    right: float
    n_visible_clean: int
    n_visible: int

    def notes(self) -> Iterator[str]:
        """Lines on draws from the relation and on visible answers; none if there are neither."""
        if self.n_relation:
            yield (
                f"{self.q_id}: the outputs of {self.n_relation} of {self.n_trials} corrupted prompts are drawn from "
                "the relation: no arrangement of their own is without a right one."
            )
        if self.n_visible_clean or self.n_visible:
            yield (
                f"{self.q_id}: the right answer is visible in {self.n_visible} of {self.n_trials} corrupted prompts, "
                f"and in {self.n_visible_clean} clean ones."
            )

    def warnings(self, name: str = "corruption") -> Iterator[str]:
        """Lines on what may change the meaning of the numbers; `name` is the name of the setting in them."""
        if self.n_permuted < self.n_trials and self.n_outputs <= FEW_OUTPUTS:
            flipped = "every answer is flipped" if self.n_outputs == 2 else "every answer is one of the wrong two"
            yield (
                f"{self.q_id}: {self.n_outputs} distinct outputs. Where no demonstration may keep a right one, the "
                f"corrupted prompts show the inverse task ({flipped}), which a model can learn from them. "
                f"{name}=permute, as in the function-vectors paper's code, leaves some right."
            )
        if self.n_permuted and self.right:
            yield (
                f"{self.q_id}: under {name}=permute, {self.right:.0%} of the demonstrations in a corrupted "
                f"prompt have a right output (mean over {self.n_trials} trials)."
            )


def corruption_report(trials: Sequence[Trial], n_outputs: int) -> CorruptionReport:
    """Report on the corrupted prompts of one relation.

    Args:
        trials: its trials, one or more.
        n_outputs: the relation's outputs that differ in normal form.
    """
    how = [trial.corruption for trial in trials]
    table = OutputTable([pair for trial in trials for pair in (trial.query, *trial.demos)])
    return CorruptionReport(
        q_id=trials[0].q_id,
        n_trials=len(trials),
        n_outputs=n_outputs,
        n_deranged=how.count("deranged"),
        n_relation=how.count("relation"),
        n_permuted=how.count("permuted"),
        right=float(np.mean([_share_right(trial, table) for trial in trials])),
        n_visible_clean=sum(_shows(trial.demos, trial.query) for trial in trials),
        n_visible=sum(trial.target_in_corrupted for trial in trials),
    )


def _share_right(trial: Trial, table: OutputTable) -> float:
    shown = zip(trial.demos, trial.corrupted_demos, strict=True)
    return float(np.mean([not table.is_wrong(demo, after.exB) for demo, after in shown]))


def _shows(demos: list[Pair], query: Pair) -> bool:
    return normalise(query.exB) in {normalise(demo.exB) for demo in demos}
