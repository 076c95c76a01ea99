"""Chosen cells on the test trials, beside controls, ablations and baselines.

A unit is a relation's conditions of its own, or those that other relations have a part in (`fv.evaluation.candidates`),
under the digest of every edit, prompt and cell; what the run is called or holds beside them does not matter.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
import torch

from fv.data.snapshot import Snapshot, Trial
from fv.evaluation.candidates import Candidate, CandidatesOfRelations, Injected, LayerMean
from fv.evaluation.cells import weaker_cells
from fv.evaluation.conditions import Condition, Stream
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.questions import RelationQuestions, read_unrelated
from fv.evaluation.selection import DEV, TEST
from fv.evaluation.tables import rated_rows
from fv.interventions.answers import injection_cost, score_answers, score_columns
from fv.interventions.engine import Cell, Engine
from fv.models.prompt import Prompt
from fv.progress import progress_bar
from fv.tables import Tables, arrays_of, tables_of
from fv.units import UnitStore
from fv.vectors.vector import Vector

log = logging.getLogger(__name__)
UNEDITED = {"zero_shot": "zero_shot", "few_shot": "clean", "few_shot_corrupted": "corrupted"}
"""Conditions without an edit, and their prompts."""


@dataclass
class HeldOutRows:
    """What running the conditions gave.

    Attributes:
        trials: one row a (fv, relation, condition, draw, trial).
        costs: one row a (fv, relation, condition, draw, unrelated text), with `kl` in nats.
        relations: one row a relation: what its denominators and chances are.
    """

    trials: list[pd.DataFrame] = field(default_factory=list)
    costs: list[pd.DataFrame] = field(default_factory=list)
    relations: list[pd.DataFrame] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """A relation's trials as they are asked.

    Attributes:
        questions: how a trial is asked.
        test: the trials that are reported.
        prompts: {kind of prompt: the test trials' prompts}.
        dev: zero-shot prompts of those that cells are chosen on.
        stream: the residual stream that strengths are told against.
        choice: the search for the cells of controls and baselines; None where no trials are kept to choose on.
    """

    questions: RelationQuestions
    test: Sequence[Trial]
    prompts: dict[str, list[Prompt]]
    dev: Sequence[Prompt]
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
        max_rows: most cached token positions in one pass.
    """

    engine: Engine
    snapshot: Snapshot
    candidates: CandidatesOfRelations
    vectors: dict[str, Vector]
    chosen: pd.DataFrame
    parts: dict[str, str]
    max_rows: int

    @cached_property
    def unrelated(self) -> list[list[int]]:
        """Token ids of the unrelated texts, the same for every relation.

        Cut to the shortest, they run as one batch; any beginning of a text is as unrelated as the whole.
        """
        evaluation = self.candidates.evaluation
        if not evaluation.n_unrelated:
            return []
        texts = read_unrelated(evaluation)
        ids = [self.candidates.lm.encode(text, self.snapshot.meta.add_special_tokens) for text in texts]
        shortest = min(map(len, ids))
        return [one[:shortest] for one in ids]

    def run(self, units: UnitStore) -> HeldOutRows:
        """Run every condition of every relation that has a chosen cell; `units` are those that are finished."""
        found = HeldOutRows()
        qids = sorted(self.chosen["eval_qid"].unique())
        with progress_bar("Test trials", len(qids)) as (advance, rename):
            for q_id in qids:
                rename(q_id)
                self._run_relation(q_id, units, found)
                advance(1)
        return found

    def _run_relation(self, q_id: str, units: UnitStore, found: HeldOutRows) -> None:
        asked = self._asked(q_id)
        tables: list[Tables] = []
        for name, candidates in self.candidates.of(q_id, self._chosen_vectors(q_id))._asdict().items():
            if not candidates:
                continue
            unit, made_from = f"held_out-{q_id}-{name}", self._made_from(asked, candidates)
            if arrays := units.find(unit, made_from):
                tables.append(tables_of(arrays))
                log.info("%s, %s: found finished", q_id, SAID[name])
            else:
                log.info("%s, %s: running on test trials", q_id, SAID[name])
                tables.append(self._run_unit(q_id, asked, candidates))
                units.keep(unit, made_from, arrays_of(tables[-1]))
        rows = _rated(pd.concat([part["scores"] for part in tables], ignore_index=True), asked.test)
        found.trials.append(rows)
        found.costs += [part["costs"] for part in tables if "costs" in part]
        found.relations.append(pd.DataFrame([_relation_row(q_id, asked, rows)]))

    def _made_from(self, asked: Asked, candidates: Sequence[Candidate]) -> list[Any]:
        """All that a unit's numbers depend on beside the model."""
        kinds = sorted({candidate.prompt for candidate in candidates})
        choice = asked.choice
        chooses = [choice.cells, choice.shares, [[p.token_ids, p.target] for p in choice.prompts]] if choice else None
        stream = None if asked.stream.norm is None else asked.stream.norm.tolist()
        return [
            [candidate.content for candidate in candidates],
            {kind: [*map(list, asked.prompts[kind])] for kind in kinds},
            [asked.questions.ending, chooses, stream, asked.stream.is_unit, self.unrelated],
        ]

    def _run_unit(self, q_id: str, asked: Asked, candidates: Sequence[Candidate]) -> Tables:
        conditions = self._settled(asked, candidates)
        lm, max_rows = self.candidates.lm, self.max_rows
        scored: dict[int, pd.DataFrame] = {}
        for kind in dict.fromkeys(candidate.prompt for candidate in candidates):
            which = [i for i, candidate in enumerate(candidates) if candidate.prompt == kind]
            prompts = asked.prompts[kind]
            edits = [conditions[i].edit for i in which]
            scores = score_answers(lm, prompts, edits, asked.questions.ending, max_rows)
            for column, i in enumerate(which):
                where = {**conditions[i].where(q_id), "prompt": kind, "trial": range(len(prompts))}
                scored[i] = pd.DataFrame({**where, **score_columns(scores, column)})
        tables = {"scores": pd.concat([scored[i] for i in sorted(scored)], ignore_index=True)}
        costed = [conditions[i] for i, c in enumerate(candidates) if c.prompt == "zero_shot" and c.edit is not None]
        if self.unrelated and costed:
            # KL divergence where the edits should change nothing: (n_texts, n_conditions)
            costs = injection_cost(lm, self.unrelated, [condition.edit for condition in costed], max_rows)
            by_condition = [
                pd.DataFrame({**condition.where(q_id), "text": range(len(costs)), "kl": costs[:, i]})
                for i, condition in enumerate(costed)
            ]
            tables["costs"] = pd.concat(by_condition, ignore_index=True)
        return tables

    def _settled(self, asked: Asked, candidates: Sequence[Candidate]) -> list[Condition]:
        """Each candidate at its cell."""
        choice, stream = asked.choice, asked.stream
        cells: dict[int, Cell] = {}
        choosing = {i: c.edit for i, c in enumerate(candidates) if isinstance(c.edit, Injected) and c.edit.chooses}
        if choice and choosing:
            best = choice.of_vectors(torch.stack([edit.vector for edit in choosing.values()]))
            cells = dict(zip(choosing, best, strict=True))
        means = {i: c.edit for i, c in enumerate(candidates) if isinstance(c.edit, LayerMean)}
        if choice and means:
            added, replaced = choice.of_layer_means(next(iter(means.values())).residual)
            cells |= {i: replaced if edit.replaces else added for i, edit in means.items()}
        conditions = []
        for i, candidate in enumerate(candidates):
            name, edit, labels = candidate.name, candidate.edit, candidate.labels
            if isinstance(edit, Injected):
                conditions.append(stream.injected(name, edit.vector, cells.get(i, edit.cell), **labels))
            elif isinstance(edit, LayerMean):
                cell = cells.get(i, edit.cell)
                put = stream.replaced if edit.replaces else stream.injected
                conditions.append(put(name, edit.residual[cell.layer], cell, **labels))
            else:
                conditions.append(Condition(name, edit, **labels))
        return conditions

    def _choice(self, dev: Sequence[Prompt], stream: Stream) -> DevChoice | None:
        if not dev:
            return None
        weaker = self.candidates.evaluation.controls.weaker
        cells = weaker_cells(self.candidates.cells, weaker)
        return DevChoice(self.engine, dev, cells, sorted([1.0, *weaker]), stream.unit)

    def _asked(self, q_id: str) -> Asked:
        questions = RelationQuestions(self.candidates.lm, self.snapshot, q_id)
        test, dev = ([t for t in questions.trials if self.parts.get(t.trial_id) == part] for part in (TEST, DEV))
        prompts = {kind: [questions.ask(trial, kind) for trial in test] for kind in UNEDITED.values()}
        asked, stream = [questions.ask(trial, "zero_shot") for trial in dev], self.candidates.stream(q_id)
        return Asked(questions, test, prompts, asked, stream, self._choice(asked, stream))

    def _chosen_vectors(self, q_id: str) -> list[tuple[Vector, Cell]]:
        here = self.chosen[self.chosen["eval_qid"] == q_id]
        return [
            (self.vectors[fv], Cell(int(layer), float(alpha)))
            for fv, layer, alpha in here[["fv", "layer", "alpha"]].itertuples(index=False)
        ]


def _rated(scores: pd.DataFrame, trials: Sequence[Trial]) -> pd.DataFrame:
    """Trial rows of a relation's conditions from their scores.

    An edit is compared with its own prompt unedited, and an unedited prompt with the zero-shot one.
    """
    ids = pd.Series([trial.trial_id for trial in trials])
    named = scores.assign(trial_id=scores["trial"].map(ids))
    unedited = {prompt: rated_rows(named[named["condition"] == name], None) for name, prompt in UNEDITED.items()}
    right = unedited["clean"]["top1"].to_numpy() == 1
    tables = []
    for (_, name, _), rows in named.groupby(["fv", "condition", "draw"], sort=False):
        reference = unedited["zero_shot" if name in UNEDITED else rows["prompt"].iloc[0]]
        rated = rated_rows(rows, None if name == "zero_shot" else reference)
        tables.append(rated.assign(few_shot_correct=right))
    return pd.concat(tables, ignore_index=True).drop(columns=["trial", "prompt"])


SAID = {"own": "its own conditions", "of_others": "those that other relations have a part in"}


def _relation_row(q_id: str, asked: Asked, rows: pd.DataFrame) -> dict[str, Any]:
    """A relation's denominators and chances."""
    few_shot = rows[rows["condition"] == "few_shot"]
    return {
        "eval_qid": q_id,
        "n_dev": len(asked.dev),
        "n_test": len(asked.test),
        "n_few_shot_correct": int(few_shot["few_shot_correct"].sum()),
        "n_outputs": asked.questions.n_outputs,
        "majority_accuracy": asked.questions.majority_accuracy(list(asked.test)),
        "target_in_corrupted": sum(trial.target_in_corrupted for trial in asked.test) / len(asked.test),
    }
