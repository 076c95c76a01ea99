"""Chosen cells on the test trials, beside controls, ablations and baselines.

A unit is a relation's conditions of its own, or those that other relations have a part in (`fv.evaluation.candidates`),
under the digest of every edit, prompt and cell; what the run is called or holds beside them does not matter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from fv.data.snapshot import Snapshot
from fv.evaluation.asked import Asked
from fv.evaluation.candidate import Candidate
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.settled import Stream, best_cells, settled
from fv.evaluation.tables import rated
from fv.interventions.answers import score_answers, score_columns
from fv.interventions.engine import Cell, Engine
from fv.progress import Advance
from fv.tables import Tables, arrays_of, tables_of
from fv.vectors.vector import Vector
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName

KEPT_BYTES = 2**30
"""Prompts of a relation that were run are kept up to so much memory, for its other conditions."""


@dataclass
class HeldOutRows:
    """What running the conditions gave.

    Attributes:
        trials: one row a (fv, relation, condition, draw, trial).
        relations: one row a relation: what its denominators and chances are.
        contrasts: the comparisons that the conditions ask for: (condition, what is subtracted from it).
    """

    trials: list[pd.DataFrame] = field(default_factory=list)
    relations: list[pd.DataFrame] = field(default_factory=list)
    contrasts: set[tuple[str, str]] = field(default_factory=set)


@dataclass(frozen=True)
class _Relation:
    """A relation's trials as they are asked, and the candidates that are run on them.

    Attributes:
        asked: its trials.
        parts: {`own` or `of_others`: the candidates}; a part without any is left out.
        stream: its residual stream.
        choice: what chooses cells on its dev trials; None where there are none.
    """

    asked: Asked
    parts: dict[str, list[Candidate]]
    stream: Stream
    choice: DevChoice | None


@dataclass
class HeldOutRun:
    """What the conditions of every relation have in common.

    Attributes:
        engine: the engine of the grid.
        snapshot: the trials.
        candidates: makes the conditions.
        vectors: the function vectors by name.
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
            asked = relation.asked
            rows.trials.append(rated(scores, [trial.trial_id for trial in asked.test], asked.shown))
            rows.relations.append(pd.DataFrame([asked.denominators(rows.trials[-1])]))
        return rows

    def _relation(self, q_id: str) -> "_Relation":
        asked = Asked.of(self.candidates.lm, self.snapshot, q_id, self.parts)
        stream = self.candidates.stream(q_id)
        every = self.candidates.of(q_id, self._chosen_vectors(q_id))._asdict()
        parts = {part: candidates for part, candidates in every.items() if candidates}
        return _Relation(asked, parts, stream, self._choice(asked, stream))

    def _job(self, relation: "_Relation") -> Job:
        """A relation's conditions: both units ask for the same zero-shot prompts, and so do the searches for cells."""
        parts = [*relation.parts.items()]
        q_id, n_test = relation.asked.questions.q_id, len(relation.asked.test)

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
        """All that a unit's numbers depend on beside the model."""
        asked, choice, stream = relation.asked, relation.choice, relation.stream
        kinds = sorted({candidate.prompt for candidate in candidates})
        # What chooses nothing, in whatever kind of prompt, does not depend on the prompts that others choose on.
        on = {kind: [[p.token_ids, p.target] for p in choice.prompts[kind]] for kind in kinds} if choice else {}
        chooses = [[*map(list, choice.grid)], list(choice.weaker), on] if choice else None
        norm = None if stream.norm is None else stream.norm.tolist()
        return [
            [candidate.content for candidate in candidates],
            {kind: [[p.token_ids, p.answer, p.wrong] for p in asked.prompts[kind]] for kind in kinds},
            [asked.questions.ending, chooses, norm, stream.is_unit],
        ]

    def _run_unit(self, relation: "_Relation", candidates: Sequence[Candidate], advance: Advance) -> Tables:
        """Scores of the candidates, each at the cell that is chosen for it."""
        asked, choice, stream = relation.asked, relation.choice, relation.stream
        conditions = settled(candidates, best_cells(candidates, choice) if choice else {}, stream)
        q_id = asked.questions.q_id
        scored: dict[int, pd.DataFrame] = {}
        for kind in dict.fromkeys(candidate.prompt for candidate in candidates):
            which = [i for i, candidate in enumerate(candidates) if candidate.prompt == kind]
            edits = [conditions[i].edit for i in which]
            scores = score_answers(self.engine, asked.prompts[kind], edits, asked.questions.ending, advance)
            for column, i in enumerate(which):
                where = {**conditions[i].where(q_id), "prompt": kind, "trial": range(len(asked.test))}
                scored[i] = pd.DataFrame({**where, **score_columns(scores, column)})
        return {"scores": pd.concat([scored[i] for i in sorted(scored)], ignore_index=True)}

    def _choice(self, asked: Asked, stream: Stream) -> DevChoice | None:
        if not asked.n_dev:
            return None
        weaker = self.candidates.evaluation.controls.weaker
        return DevChoice(self.engine, asked.dev, self.candidates.cells, weaker, stream.unit)

    def _chosen_vectors(self, q_id: str) -> list[tuple[Vector, Cell]]:
        here = self.chosen[self.chosen["eval_qid"] == q_id]
        return [
            (self.vectors[fv], Cell(int(layer), float(alpha)))
            for fv, layer, alpha in here[["fv", "layer", "alpha"]].itertuples(index=False)
        ]
