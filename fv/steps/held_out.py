"""The second half of Step6: chosen cells on the test trials, beside controls, ablations and baselines."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fv.answers import AnswerScores, Question, injection_cost, score_answers
from fv.config import AlphaUnit, Config, ControlCell
from fv.controls import Control, make_controls, random_head_sets
from fv.edits import SetHeads
from fv.engine import make_sweep
from fv.held_out import condition_rows
from fv.injection import Vector, weaker_cells
from fv.models.language_model import LanguageModel
from fv.progress import progress_bar
from fv.questions import RelationQuestions, read_unrelated
from fv.selection import DEV, TEST
from fv.snapshot import Trial
from fv.steps.conditions import Condition, Stream
from fv.steps.dev_choice import DevChoice
from fv.steps.stepd_results import Ranking, StepdResults
from fv.steps.units import UnitStore
from fv.steps.vectors import made_of
from fv.sweep import Cell, Prompt, Sweep
from fv.tables import Tables, arrays_of, tables_of

log = logging.getLogger(__name__)


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

    def add(self, tables: Tables) -> None:
        """Add one relation's."""
        self.trials.append(tables["trials"])
        self.relations.append(tables["relation"])
        if "costs" in tables:
            self.costs.append(tables["costs"])


@dataclass
class HeldOutRun:
    """What the conditions of every relation have in common.

    Attributes:
        config: the configuration.
        lm: the model.
        stepd: StepD's artifacts.
        ranking: how heads were ranked.
        vectors: the function vectors by name.
        chosen: the chosen cell of each (fv, relation), `fv.selection.choose_cells`.
        cells: all cells of the grid.
        parts: {trial_id: `dev` or `test`}.
    """

    config: Config
    lm: LanguageModel
    stepd: StepdResults
    ranking: Ranking
    vectors: dict[str, Vector]
    chosen: pd.DataFrame
    cells: Sequence[Cell]
    parts: dict[str, str]
    _made: dict[tuple[str, int, bool], Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def sweep(self) -> Sweep:
        """The engine of the grid."""
        return make_sweep(self.lm, self.config.compute.sweep.value, self.config.compute.max_rows)

    @cached_property
    def unrelated(self) -> list[list[int]]:
        """Token ids of the unrelated texts, the same for every relation.

        Cut to the shortest, they run as one batch; any beginning of a text is as unrelated as the whole.
        """
        evaluation, special = self.config.evaluation, self.stepd.snapshot.meta.add_special_tokens
        texts = read_unrelated(evaluation.unrelated_path, evaluation.n_unrelated)
        ids = [self.lm.encode(text, special) for text in texts]
        shortest = min(map(len, ids))
        return [one[:shortest] for one in ids]

    def run(self, units: UnitStore) -> HeldOutRows:
        """Run every condition of every relation that has a chosen cell; `units` are those that are finished."""
        found = HeldOutRows()
        qids = sorted(self.chosen["eval_qid"].unique())
        with progress_bar("Step6 on test trials", len(qids)) as (advance, rename):
            for q_id in qids:
                rename(q_id)
                name, made_from = f"held_out {q_id}", self._made_from(q_id)
                if arrays := units.find(name, made_from):
                    tables = tables_of(arrays)
                    log.info("%s: found finished", q_id)
                else:
                    log.info("%s: running on test trials", q_id)
                    tables = self._run_relation(q_id)
                    units.keep(name, made_from, arrays_of(tables))
                found.add(tables)
                advance(1)
        return found

    def _made_from(self, q_id: str) -> list[Any]:
        """What the rows of a relation depend on beside settings and inputs: the grid, its parts, the chosen cells."""
        chosen = [[vector.name, *cell] for vector, cell in self._chosen_vectors(q_id)]
        own = (trial.trial_id for trial in self.stepd.snapshot.of(q_id, self.stepd.snapshot.eval_split))
        parts = sorted((trial, self.parts[trial]) for trial in own if trial in self.parts)
        return [chosen, parts, [list(cell) for cell in self.cells]]

    def _run_relation(self, q_id: str) -> Tables:
        questions = RelationQuestions(self.lm, self.stepd.snapshot, q_id)
        trials, dev = self._trials(questions, TEST), self._trials(questions, DEV)
        by_prompt = self._conditions(q_id, [questions.ask(trial, "zero_shot") for trial in dev])
        ids = [trial.trial_id for trial in trials]
        tables: list[pd.DataFrame] = []
        unedited: dict[str, pd.DataFrame] = {}
        for prompt, conditions in by_prompt.items():
            scores = self._score(questions, trials, prompt, conditions)
            for i, condition in enumerate(conditions):
                # An edit is compared with its own prompt unedited, and an unedited prompt with the zero-shot one.
                reference = unedited.get(prompt if i else "zero_shot")
                rows = condition_rows(condition.where(q_id), ids, scores, i, reference)
                unedited.setdefault(prompt, rows)
                tables.append(rows)
        right = unedited["clean"]["top1"].to_numpy() == 1
        relation = {
            "eval_qid": q_id,
            "n_dev": len(dev),
            "n_test": len(trials),
            "n_few_shot_correct": int(right.sum()),
            "n_outputs": questions.n_outputs,
            "majority_accuracy": questions.majority_accuracy(trials),
            "target_in_corrupted": sum(trial.target_in_corrupted for trial in trials) / len(trials),
        }
        found = {
            "trials": pd.concat([rows.assign(few_shot_correct=right) for rows in tables], ignore_index=True),
            "relation": pd.DataFrame([relation]),
        }
        if costs := self._costs(q_id, by_prompt["zero_shot"][1:]):
            found["costs"] = pd.concat(costs, ignore_index=True)
        return found

    def _conditions(self, q_id: str, dev: Sequence[Question]) -> dict[str, list[Condition]]:
        """The conditions of each kind of prompt, the unedited one first; `dev` are zero-shot questions."""
        evaluation, chosen = self.config.evaluation, self._chosen_vectors(q_id)
        in_domain = [(vector, cell) for vector, cell in chosen if vector.source_qid in (None, q_id)]
        zero_shot = [Condition("zero_shot", None), *self._injections(q_id, chosen, dev)]
        clean = [Condition("few_shot", None)]
        if evaluation.necessity:
            clean += self._ablations(q_id, [vector for vector, _ in in_domain])
        if not evaluation.baselines:
            return {"zero_shot": zero_shot, "clean": clean}
        zero_shot += self._layer_means(q_id, dev)
        corrupted = [Condition("few_shot_corrupted", None)]
        stream = self._stream(q_id)
        corrupted += [stream.injected("few_shot_corrupted_fv", v.values, cell, fv=v.name) for v, cell in in_domain]
        return {"zero_shot": zero_shot, "clean": clean, "corrupted": corrupted}

    def _trials(self, questions: RelationQuestions, part: str) -> list[Trial]:
        return [trial for trial in questions.trials if self.parts.get(trial.trial_id) == part]

    def _chosen_vectors(self, q_id: str) -> list[tuple[Vector, Cell]]:
        here = self.chosen[self.chosen["eval_qid"] == q_id]
        return [
            (self.vectors[fv], Cell(int(layer), float(alpha)))
            for fv, layer, alpha in here[["fv", "layer", "alpha"]].itertuples(index=False)
        ]

    def _stream(self, q_id: str) -> Stream:
        """The residual stream that injections into a relation's prompts are told against."""
        is_unit = self.config.injection.alpha_unit is AlphaUnit.residual
        return Stream(self.stepd.means_of(q_id).residual_norm, is_unit)

    def _choice(self, stream: Stream, dev: Sequence[Question]) -> DevChoice | None:
        """The search for the cells of controls and baselines; None where no trials are kept to choose on."""
        if not dev:
            return None
        prompts = [Prompt(question.token_ids, question.answer[0]) for question in dev]
        weaker = self.config.evaluation.controls.weaker
        return DevChoice(self.sweep, prompts, weaker_cells(self.cells, weaker), sorted([1.0, *weaker]), stream.unit)

    def _injections(self, q_id: str, chosen: Sequence[tuple[Vector, Cell]], dev: Sequence[Question]) -> list[Condition]:
        """Each vector at its cell, with its controls where it has any of its own."""
        found, stream = [], self._stream(q_id)
        for vector, cell in chosen:
            compared = self._compared_with(vector, q_id, [v for v, _ in chosen])
            found.append(stream.injected("fv", vector.values, cell, fv=vector.name, compared_with=compared.name))
            if compared is not vector:
                continue
            in_domain = vector.source_qid in (None, q_id)
            controls = [c for c in self._controls(vector) if in_domain or c.name == "random_vector"]
            cells = self._cells_of(controls, cell, stream, dev)
            for control, own in zip(controls, cells, strict=True):
                which = {"fv": vector.name, "draw": control.draw, "of": control.of, "all_draws": control.all_draws}
                found.append(stream.injected(control.name, control.values, own, **which))
        return found

    @staticmethod
    def _compared_with(vector: Vector, q_id: str, here: Sequence[Vector]) -> Vector:
        """The vector whose controls a vector is compared with: itself, or of another relation's, the relation's own."""
        if vector.source_qid in (None, q_id):
            return vector
        own = (v for v in here if (v.source_qid, v.kind, v.k) == (q_id, vector.kind, vector.k))
        return next(own, vector)

    def _cells_of(self, controls: Sequence[Control], cell: Cell, stream: Stream, dev: Sequence[Question]) -> list[Cell]:
        """Where each control is injected: at its own best cell on dev trials, or at the vector's."""
        choice = self._choice(stream, dev)
        if not controls or choice is None or self.config.evaluation.controls.cell is ControlCell.same:
            return [cell] * len(controls)
        return choice.of_vectors(torch.stack([control.values for control in controls]))

    def _controls(self, vector: Vector) -> list[Control]:
        heads = made_of(vector, self.stepd, self.ranking)
        others: dict[str, Tensor] = {}
        if vector.source_qid is not None:
            k = vector.k or self.ranking.k
            aie = vector.kind == "aie_qid"
            others = {q: self._vector_of(q, k, aie) for q in self.stepd.snapshot.qids if q != vector.source_qid}
        return make_controls(self.lm, vector, heads, others, self.config.evaluation.controls, self.config.seed)

    def _vector_of(self, q_id: str, k: int, aie: bool) -> Tensor:
        """A relation's vector of `k` heads, made once: every other relation asks for it."""
        if (q_id, k, aie) not in self._made:
            self._made[q_id, k, aie] = self.stepd.vector_of(self.lm, q_id, self.ranking, k, aie)
        return self._made[q_id, k, aie]

    def _ablations(self, q_id: str, vectors: Sequence[Vector]) -> list[Condition]:
        """Top-k heads, and random ones in the same layers, set to their mean over the corrupted prompts."""
        found = []
        values = self.stepd.means_of(q_id).corrupted
        for vector in vectors:
            heads = made_of(vector, self.stepd, self.ranking)
            if heads is None:
                continue
            found.append(Condition("ablated_top_heads", SetHeads(heads.heads, values), vector.name))
            sets, every = random_head_sets(
                vector, heads, self.config.evaluation.controls.random_heads, self.config.seed
            )
            found += [
                Condition("ablated_random_heads", SetHeads(drawn, values), vector.name, draw, all_draws=every)
                for draw, drawn in enumerate(sets)
            ]
        return found

    def _layer_means(self, q_id: str, dev: Sequence[Question]) -> list[Condition]:
        """A layer's mean residual stream over the clean prompts, added and put in place, each at its own best cell."""
        residual, stream = self.stepd.means_of(q_id).residual, self._stream(q_id)  # (n_layers, d_model)
        added, replaced = self.cells[0], Cell(self.cells[0].layer, 1.0)
        if choice := self._choice(stream, dev):
            added, replaced = choice.of_layer_means(residual)
        return [
            stream.injected("layer_mean_added", residual[added.layer], added),
            stream.replaced("layer_mean_replaced", residual[replaced.layer], replaced),
        ]

    def _score(
        self, questions: RelationQuestions, trials: Sequence[Trial], prompt: str, conditions: Sequence[Condition]
    ) -> AnswerScores:
        asked = [questions.ask(trial, prompt) for trial in trials]
        edits = [condition.edit for condition in conditions]
        return score_answers(self.lm, asked, edits, questions.ending, self.config.compute.max_rows)

    def _costs(self, q_id: str, conditions: Sequence[Condition]) -> list[pd.DataFrame]:
        """KL divergence on unrelated texts, where the edits should change nothing."""
        if not self.config.evaluation.n_unrelated:
            return []
        edits = [condition.edit for condition in conditions]
        costs = injection_cost(self.lm, self.unrelated, edits, self.config.compute.max_rows)  # (n_texts, n_conditions)
        return [
            pd.DataFrame({**condition.where(q_id), "text": range(len(costs)), "kl": costs[:, i]})
            for i, condition in enumerate(conditions)
        ]
