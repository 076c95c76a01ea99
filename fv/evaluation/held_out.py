"""Runs of the chosen cells on the test trials, with controls, ablations and baselines.

Each relation has up to two units: the conditions that depend on this relation alone, and those that depend on other
relations as well (`fv.evaluation.candidates`). A unit is stored under the digest of all its options and prompts,
so it does not depend on the run's name or on anything else in the run.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from fv.data.snapshot import Snapshot
from fv.evaluation.candidate import Candidate
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.condition import settled
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.questions import RelationPrompts
from fv.evaluation.tables import rated
from fv.interventions.answers import score_answers, score_columns
from fv.interventions.engine import Cell, Engine
from fv.progress import Advance
from fv.tables import Tables, arrays_of, stacked, tables_of
from fv.vectors.stream import Stream
from fv.vectors.vector import Vector
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName

KEPT_BYTES = 2**30
"""Memory for keeping a relation's prompts after their first run, for its other conditions."""


@dataclass
class HeldOutRows:
    """Results of running the conditions.

    Attributes:
        trials: one row per (fv, relation, condition, draw, trial).
        relations: one row per relation, with its denominators and chance levels.
        contrasts: the comparisons that the conditions request: (condition, the condition subtracted from it).
    """

    trials: list[pd.DataFrame] = field(default_factory=list)
    relations: list[pd.DataFrame] = field(default_factory=list)
    contrasts: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True)
class _Relation:
    """A relation's prompts, and the candidates that are run on them.

    Attributes:
        prompts: the prompts of its trials.
        parts: {`own` or `of_others`: the candidates}; a part without candidates is left out.
        stream: its residual stream.
        choice: the choice of options on its dev trials; None if it has none.
    """

    prompts: RelationPrompts
    parts: dict[str, list[Candidate]]
    stream: Stream
    choice: DevChoice | None


@dataclass
class HeldOutRun:
    """Inputs that the runs of all relations' conditions share.

    Attributes:
        engine: the engine of the grid.
        snapshot: the trials.
        candidates: maker of the conditions.
        vectors: {name: function vector}.
        chosen: the chosen cell of each (fv, relation), `fv.evaluation.selection.choose_cells`.
        parts: {trial_id: `dev` or `test`}.
    """

    engine: Engine
    snapshot: Snapshot
    candidates: CandidatesOfRelations
    vectors: dict[str, Vector]
    chosen: pd.DataFrame
    parts: dict[str, str]

    def flow(self) -> Flow[HeldOutRows]:
        """Run every condition of every relation that has a chosen cell."""
        relations = [self._relation(q_id) for q_id in sorted(self.chosen["eval_qid"].unique())]
        found = yield Stage("test trials", [self._job(relation) for relation in relations])
        rows = HeldOutRows()
        for relation, arrays in zip(relations, found, strict=True):
            candidates = [candidate for part in relation.parts.values() for candidate in part]
            rows.contrasts.update(pair for candidate in candidates for pair in candidate.contrasts)
            scores = pd.concat([tables_of(each)["scores"] for each in arrays], ignore_index=True)
            prompts = relation.prompts
            rows.trials.append(rated(scores, [trial.trial_id for trial in prompts.trials], prompts.shown))
            rows.relations.append(pd.DataFrame([prompts.denominators(rows.trials[-1])]))
        return rows

    def _relation(self, q_id: str) -> "_Relation":
        prompts = RelationPrompts.of(self.candidates.lm, self.snapshot, q_id, self.parts)
        stream = self.candidates.stream(q_id)
        every = self.candidates.of(q_id, self._chosen_vectors(q_id))._asdict()
        parts = {part: candidates for part, candidates in every.items() if candidates}
        return _Relation(prompts, parts, stream, self._choice(prompts, stream))

    def _job(self, relation: "_Relation") -> Job:
        """Job of a relation's units, which share prompts with each other and with the choice of options."""
        parts = [*relation.parts.items()]
        q_id, n_test = relation.prompts.questions.q_id, len(relation.prompts.trials)

        def compute(due: Sequence[int], advance: Advance) -> Iterator[Arrays]:
            with self.engine.keeping(KEPT_BYTES):
                for place in due:
                    yield arrays_of(self._run_unit(relation, parts[place][1], advance))

        units = [
            Unit(
                UnitName("held_out", q_id, part),
                partial(self._made_from, relation, candidates),
                n_test,
                n_test * len(candidates),
                rows=n_test * len(candidates),
            )
            for part, candidates in parts
        ]
        return Job(units, compute)

    def _made_from(self, relation: "_Relation", candidates: Sequence[Candidate]) -> list[Any]:
        """Everything except the model that a unit's numbers depend on."""
        prompts, choice, stream = relation.prompts, relation.choice, relation.stream
        kinds = sorted({candidate.prompt for candidate in candidates})
        # A unit depends only on the dev prompts of the kinds in which its own candidates choose.
        on = {kind: [[p.token_ids, p.target] for p in choice.prompts[kind]] for kind in kinds} if choice else None
        norm = None if stream.norm is None else stream.norm.tolist()
        return [
            [candidate.content for candidate in candidates],
            {kind: [[p.token_ids, p.answer, p.wrong] for p in prompts.test[kind]] for kind in kinds},
            [prompts.questions.ending, on, norm, stream.is_unit],
        ]

    def _run_unit(self, relation: "_Relation", candidates: Sequence[Candidate], advance: Advance) -> Tables:
        """Score the candidates, each with the option that is chosen for it."""
        prompts, choice, stream = relation.prompts, relation.choice, relation.stream
        conditions = settled(candidates, choice.of(candidates) if choice else {}, stream)
        q_id = prompts.questions.q_id
        n, scored = len(prompts.trials), dict[int, dict[str, np.ndarray]]()
        for kind in dict.fromkeys(candidate.prompt for candidate in candidates):
            which = [i for i, candidate in enumerate(candidates) if candidate.prompt == kind]
            edits = [conditions[i].edit for i in which]
            scores = score_answers(self.engine, prompts.test[kind], edits, prompts.questions.ending, advance)
            for column, i in enumerate(which):
                scored[i] = {"trial": np.arange(n), **score_columns(scores, column)}
        shared = [
            {**condition.where(q_id), "prompt": candidate.prompt}
            for condition, candidate in zip(conditions, candidates, strict=True)
        ]
        return {"scores": stacked(shared, [scored[i] for i in range(len(candidates))])}

    def _choice(self, prompts: RelationPrompts, stream: Stream) -> DevChoice | None:
        return DevChoice(self.engine, prompts.dev, stream) if prompts.n_dev else None

    def _chosen_vectors(self, q_id: str) -> list[tuple[Vector, Cell]]:
        here = self.chosen[self.chosen["eval_qid"] == q_id]
        return [
            (self.vectors[fv], Cell(int(layer), float(alpha)))
            for fv, layer, alpha in here[["fv", "layer", "alpha"]].itertuples(index=False)
        ]
