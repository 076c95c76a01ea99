"""Chosen cells on the test trials, beside controls, ablations and baselines.

A unit is a relation's conditions of its own, or those that other relations have a part in (`fv.evaluation.candidates`),
under the digest of every edit, prompt and cell; what the run is called or holds beside them does not matter.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from fv.data.snapshot import Snapshot
from fv.evaluation.asked import Asked
from fv.evaluation.candidate import Candidate
from fv.evaluation.candidates import Candidates, CandidatesOfRelations
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.settled import Stream, best_cells, settled
from fv.evaluation.tables import rated
from fv.interventions.answers import score_answers, score_columns
from fv.interventions.engine import Advance, Cell, Engine, ignore_progress
from fv.progress import progress_bar
from fv.tables import Tables, arrays_of, tables_of
from fv.units import UnitName, UnitStore
from fv.vectors.vector import Vector

log = logging.getLogger(__name__)
SAID = {"own": "its own conditions", "of_others": "those that other relations have a part in"}
"""What the log calls a unit."""
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

    def run(self, units: UnitStore) -> HeldOutRows:
        """Run every condition of every relation that has a chosen cell; `units` are those that are finished."""
        found = HeldOutRows()
        qids = sorted(self.chosen["eval_qid"].unique())
        asked = {q_id: Asked.of(self.candidates.lm, self.snapshot, q_id, self.parts) for q_id in qids}
        every = {q_id: self.candidates.of(q_id, self._chosen_vectors(q_id)) for q_id in qids}
        n_answers = sum(len(asked[q_id].test) * sum(map(len, every[q_id])) for q_id in qids)
        with progress_bar("Test trials", n_answers) as (advance, rename):
            for q_id in qids:
                rename(q_id)
                # Both units ask for the same zero-shot prompts, and so do the searches for cells.
                with self.engine.keeping(KEPT_BYTES):
                    self._run_relation(asked[q_id], every[q_id], units, found, advance)
        return found

    def compute(self, q_id: str, part: str, units: UnitStore) -> None:
        """Compute one of a relation's units, `own` or `of_others`, into the store, unless it is there."""
        asked = Asked.of(self.candidates.lm, self.snapshot, q_id, self.parts)
        if candidates := getattr(self.candidates.of(q_id, self._chosen_vectors(q_id)), part):
            with self.engine.keeping(KEPT_BYTES):
                self._unit(asked, part, candidates, units, ignore_progress)

    def _run_relation(
        self, asked: Asked, every: Candidates, units: UnitStore, found: HeldOutRows, advance: Advance
    ) -> None:
        tables: list[Tables] = []
        for part, candidates in every._asdict().items():
            if candidates:
                found.contrasts.update(pair for candidate in candidates for pair in candidate.contrasts)
                tables.append(self._unit(asked, part, candidates, units, advance))
        scores = pd.concat([part["scores"] for part in tables], ignore_index=True)
        rows = rated(scores, [trial.trial_id for trial in asked.test], asked.shown)
        found.trials.append(rows)
        found.relations.append(pd.DataFrame([asked.denominators(rows)]))

    def _unit(
        self, asked: Asked, part: str, candidates: Sequence[Candidate], units: UnitStore, advance: Advance
    ) -> Tables:
        """A unit, found or run."""
        q_id = asked.questions.q_id
        stream = self.candidates.stream(q_id)
        choice = self._choice(asked, stream)
        name, made_from = UnitName("held_out", q_id, part), self._made_from(asked, candidates, choice, stream)
        if arrays := units.find(name, made_from):
            log.info("%s, %s: found finished", q_id, SAID[part])
            advance(len(asked.test) * len(candidates))
            return tables_of(arrays)
        log.info("%s, %s: running on test trials", q_id, SAID[part])
        tables = self._run_unit(asked, candidates, choice, stream, advance)
        units.keep(name, made_from, arrays_of(tables))
        return tables

    def _made_from(
        self, asked: Asked, candidates: Sequence[Candidate], choice: DevChoice | None, stream: Stream
    ) -> list[Any]:
        """All that a unit's numbers depend on beside the model."""
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

    def _run_unit(
        self,
        asked: Asked,
        candidates: Sequence[Candidate],
        choice: DevChoice | None,
        stream: Stream,
        advance: Advance,
    ) -> Tables:
        """Scores of the candidates, each at the cell that is chosen for it."""
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
