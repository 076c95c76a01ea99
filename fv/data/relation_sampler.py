"""The sampler of a relation's trials: splits, demonstrations, corruption (spec section 5).

Every relation draws from its own generator, seeded by (seed, q_id), so that adding or dropping a relation
changes no other relation's trials.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from fv.config import DataConfig, HoldOut, Split
from fv.data.capacity import Capacity, advice, capacity
from fv.data.corruption import OutputTable, corrupt
from fv.data.encoder import Encoder
from fv.data.hold_out import FitSide
from fv.data.kin_groups import kin_groups
from fv.data.relations import Pair, Relation, normalise
from fv.data.rendering import made_trial
from fv.data.targets import accepted, zero_shot_targets
from fv.data.templates import render
from fv.data.trial import Draw, Trial
from fv.errors import TrialError
from fv.seeding import generator_for

MAX_REASONS = 3
ATTEMPTS = 3
"""Draws of a query's demonstrations before the query is rejected."""
ATTEMPTS_AGAIN = 20
"""Draws of demonstrations for a query that is used again, before all choices are tried in order."""
MAX_CHOICES = 1000
"""Choices that are tried in order for such a query, besides those that trials have already."""


@dataclass
class QidTrials:
    """The sampled trials of one relation.

    Attributes:
        trials: fit trials, then eval trials.
        n_rejected: candidate queries that could not be used.
        reasons: the first reasons, at most three.
    """

    trials: list[Trial] = field(default_factory=list)
    n_rejected: int = 0
    reasons: list[str] = field(default_factory=list)

    def count(self, split: str) -> int:
        return sum(trial.split == split for trial in self.trials)


class RelationSampler:
    """Samples the trials of one relation.

    Eval queries are set aside with all their kin, and with all pairs of the same output if outputs are held out, before
    anything else is drawn. Fit queries and all demonstrations come from the rest, and no demonstration is kin of its
    trial's query or of another demonstration. If there are fewer fit queries than trials, queries are used again in the
    same order, each time after demonstrations that make a new prompt; so a shorter list of fit trials is the beginning
    of a longer one.
    """

    def __init__(self, relation: Relation, data: DataConfig, seed: int, encoder: Encoder) -> None:
        self.relation = relation
        self.data = data
        self.seed = seed
        self.encoder = encoder
        self.rng = generator_for(seed, relation.q_id)
        self.order: list[int] = self.rng.permutation(len(relation.pairs)).tolist()
        self.groups = kin_groups(relation.pairs)
        self.answers = _numbered_outputs(relation.pairs) if data.hold_out is HoldOut.outputs else None
        self.has_kin = np.bincount(self.groups)[self.groups] > 1
        self.result = QidTrials()

    def sample(self) -> QidTrials:
        """Sample all trials that `data` requests.

        Raises:
            TrialError: the relation cannot give them, and `allow_drop` is false.
        """
        data = self.data
        n_eval = data.n_eval_trials_per_q if data.split is Split.held_out else 0
        self.side = FitSide(self.groups, self.answers, data)
        candidates = self.side.candidates(self.order, self._is_usable)
        first = list(itertools.islice(candidates, n_eval))
        self._fill_pool()
        eval_trials = self._build_trials("eval", first, n_eval)
        # A candidate that cannot be built stays aside; others replace it while enough pairs are left for fit trials.
        while len(eval_trials) < n_eval and (another := next(candidates, None)) is not None:
            self._fill_pool()
            eval_trials += self._build_trials("eval", [another], 1, first=len(eval_trials))
        self.result.trials = [*self._build_fit_trials(data.n_trials_per_q), *eval_trials]
        for split, asked in (("fit", data.n_trials_per_q), ("eval", n_eval)):
            if self.result.count(split) < asked and not data.allow_drop:
                raise TrialError(self._too_few(split, asked))
        return self.result

    def capacity(self, usable: np.ndarray) -> Capacity:
        """Find how far each count could be raised while the others stay as configured.

        Args:
            usable: whether each pair can be a query, (n_pairs,).
        """
        return capacity(self.groups, usable, self.data, self.answers, self.order)

    def _is_usable(self, index: int) -> bool:
        try:
            _, found = next(zero_shot_targets(self.encoder, self.data.template, [self.relation.pairs[index]]))
            accepted(found)
        except TrialError as error:
            self._reject(index, error)
            return False
        return True

    def _fill_pool(self) -> None:
        """Set the pool of fit queries and demonstrations to the pairs that eval queries have left."""
        pairs, order = self.relation.pairs, np.array(self.order, dtype=np.int64)
        self.pool = order[self.side.left[order]]
        shared = (pairs[i] for i in self.pool[self.has_kin[self.pool]].tolist())
        self.outputs = OutputTable([pairs[i] for i in self.pool.tolist()], shared)

    def _build_fit_trials(self, wanted: int) -> list[Trial]:
        trials = self._build_trials("fit", self.pool.tolist(), wanted)
        if len(trials) == wanted:
            return trials
        numbers = {self.relation.pairs[i]: i for i in self.pool.tolist()}
        queries, prompts = [numbers[trial.query] for trial in trials], {trial.clean_prompt_str for trial in trials}
        while queries and len(trials) < wanted:
            left = []
            for i in queries:
                if len(trials) == wanted:
                    break
                if trial := self._build_again(f"{self.relation.q_id}:fit:{len(trials):04d}", i, prompts):
                    trials.append(trial)
                    prompts.add(trial.clean_prompt_str)
                    left.append(i)
            queries = left
        return trials

    def _build_again(self, trial_id: str, index: int, prompts: set[str]) -> Trial | None:
        """Another trial of a fit query, whose clean prompt is not among `prompts`; None if there is none."""
        query = self.relation.pairs[index]
        drawn = (self._draw_demos(index) for _ in range(ATTEMPTS_AGAIN))
        for demos in itertools.chain(drawn, itertools.islice(self._choices(index), len(prompts) + MAX_CHOICES)):
            if render(self.data.template, demos, query.exA) in prompts:
                continue
            try:
                return self._build(trial_id, "fit", index, demos)
            except TrialError:
                continue
        return None

    def _choices(self, query: int) -> Iterator[list[Pair]]:
        """All choices of demonstrations for a query, in all orders."""
        members: dict[int, list[Pair]] = defaultdict(list)
        for i in self.pool.tolist():
            if self.groups[i] != self.groups[query]:
                members[int(self.groups[i])].append(self.relation.pairs[i])
        for groups in itertools.permutations(members, self.data.n_demos):
            yield from map(list, itertools.product(*(members[group] for group in groups)))

    def _build_trials(
        self, split: Literal["fit", "eval"], candidates: list[int], wanted: int, first: int = 0
    ) -> list[Trial]:
        trials: list[Trial] = []
        for i in candidates:
            if len(trials) == wanted:
                break
            if trial := self._try_build(f"{self.relation.q_id}:{split}:{first + len(trials):04d}", split, i):
                trials.append(trial)
        return trials

    def _try_build(self, trial_id: str, split: Literal["fit", "eval"], index: int) -> Trial | None:
        """A trial, with other demonstrations if the first cannot be used; None, with a recorded reason, if none can."""
        for attempt in range(ATTEMPTS):
            try:
                return self._build(trial_id, split, index, self._draw_demos(index))
            except TrialError as error:
                if attempt == ATTEMPTS - 1:
                    self._reject(index, error)
        return None

    def _build(self, trial_id: str, split: Literal["fit", "eval"], index: int, demos: list[Pair]) -> Trial:
        query = self.relation.pairs[index]
        wrong, corruption = corrupt(demos, self.outputs, self.rng, self.data.corruption)
        draw = Draw.of(trial_id, self.relation.q_id, split, query, demos, wrong, corruption)
        return made_trial(draw, self.data.template, self.encoder)

    def _draw_demos(self, query: int) -> list[Pair]:
        demos: dict[int, Pair] = {}
        # Not `tolist()`: only the first dozen of a million shuffled pairs are read.
        for i in self.rng.permutation(self.pool):
            group = int(self.groups[i])
            if group != self.groups[query]:
                demos.setdefault(group, self.relation.pairs[i])
            if len(demos) == self.data.n_demos:
                return list(demos.values())
        asked = f"{self.data.called('n_demos')}={self.data.n_demos}"
        raise TrialError(f"{asked}, but there are {len(demos)} unrelated demonstrations")

    def _reject(self, index: int, error: TrialError) -> None:
        self.result.n_rejected += 1
        if len(self.result.reasons) < MAX_REASONS:
            self.result.reasons.append(f"{self.relation.pairs[index].exA!r}: {error}")

    def _too_few(self, split: str, asked: int) -> str:
        n_groups = len(set(self.groups))
        reasons = "".join(f"\n  - {reason}" for reason in self.result.reasons)
        data, hold_out = self.data, f"{self.data.called('hold_out')}="
        held = f" and {data.n_eval_trials_per_q} held-out eval trials" if data.split is Split.held_out else ""
        if data.hold_out is HoldOut.outputs:
            held += f" whose answers no fit prompt shows ({hold_out}outputs)"
        told = [
            f"{self.relation.q_id}: {self.result.count(split)} of {asked} {split} trials. Its "
            f"{len(self.relation.pairs)} pairs make {n_groups} groups that share no input and no reversed pair; "
            f"requested are {data.n_trials_per_q} fit trials with {data.n_demos} demonstrations{held}. "
            f"{self.result.n_rejected} candidates were rejected{':' if reasons else ''}{reasons}"
        ]
        if 0 < self.result.count("fit") < data.n_trials_per_q:
            told.append("Every fit query was used again as long as other demonstrations made another prompt.")
        if data.hold_out is HoldOut.outputs and self._works(replace(data, hold_out=HoldOut.queries)):
            told.append(f"With {hold_out}queries, which holds out pairs and not answers, it can give all.")
        told.append(advice(self.capacity(self._usable()), data, self._works, self.result.count("fit")))
        return "\n".join(told)

    def _usable(self) -> np.ndarray:
        """For each pair, whether it can be a query, (n_pairs,) bool."""
        found = zero_shot_targets(self.encoder, self.data.template, self.relation.pairs)
        return np.array([not isinstance(ids, TrialError) for _, ids in found])

    def _works(self, data: DataConfig) -> bool:
        """True if the same seed gives all trials under other counts."""
        result = RelationSampler(self.relation, replace(data, allow_drop=True), self.seed, self.encoder).sample()
        n_eval = data.n_eval_trials_per_q if data.split is Split.held_out else 0
        return (result.count("fit"), result.count("eval")) == (data.n_trials_per_q, n_eval)


def _numbered_outputs(pairs: Sequence[Pair]) -> np.ndarray:
    """A number for the output of each pair, equal for outputs with the same normal form, (n_pairs,)."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(normalise(pair.exB), len(numbers)) for pair in pairs], dtype=np.int64)
