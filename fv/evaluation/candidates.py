"""What is run on a relation's test trials: every condition, before dev trials settle where it is injected.

Conditions made of the relation's own prompts alone, and those that other relations have a part in, are kept apart:
where a run grows by relations, the first stay as they are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from torch import Tensor

from fv.config import AlphaUnit, ControlCell
from fv.config.evaluation import EvaluationConfig
from fv.evaluation.conditions import Stream
from fv.evaluation.tables import NO_VECTOR
from fv.heads.effects import Effects, Ranking
from fv.interventions.edits import SetHeads
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.units import digest_of_tensor
from fv.vectors.controls import make_controls, random_head_sets
from fv.vectors.made_of import heads_of_vector, vector_of
from fv.vectors.vector import Vector

OF_OTHERS = ("other_relation", "mean_of_others")
"""Controls that other relations' vectors make."""


@dataclass(frozen=True, eq=False)
class Injected:
    """A vector, (d_model,), added at `cell`, or, where it `chooses`, at its own best cell on dev trials."""

    vector: Tensor
    cell: Cell
    chooses: bool = False


@dataclass(frozen=True, eq=False)
class LayerMean:
    """A layer's mean residual stream, one of (n_layers, d_model), added or put in place at its own best cell on dev
    trials; at `cell` where there are none."""

    residual: Tensor
    cell: Cell
    replaces: bool


@dataclass(frozen=True, eq=False)
class Candidate:
    """A condition (`fv.evaluation.conditions.Condition`) before its cell is settled.

    Attributes:
        name: what it is.
        prompt: `zero_shot`, `clean` or `corrupted`.
        edit: what it does; None for nothing.
        fv: the function vector it belongs to; empty where it belongs to none.
        draw: which of several of its kind.
        of: the other relation it is made of.
        compared_with: the vector whose controls a vector is compared with.
        all_draws: whether there are no other draws of its kind than those that are run.
    """

    name: str
    prompt: str
    edit: Injected | LayerMean | SetHeads | None = None
    fv: str = NO_VECTOR
    draw: int = 0
    of: str | None = None
    compared_with: str | None = None
    all_draws: bool = True

    @property
    def labels(self) -> dict[str, Any]:
        """The fields that only name it."""
        return {key: getattr(self, key) for key in ("fv", "draw", "of", "compared_with", "all_draws")}

    @property
    def content(self) -> list[Any]:
        """All that its numbers depend on beside prompts and the cells to choose from: a JSON value."""
        edit: list[Any] = []
        match self.edit:
            case SetHeads(heads=heads, values=values):
                edit = [*map(list, heads), digest_of_tensor(values)]
            case Injected(vector=vector, cell=cell, chooses=chooses):
                edit = [digest_of_tensor(vector), list(cell), chooses]
            case LayerMean(residual=residual, cell=cell, replaces=replaces):
                edit = [digest_of_tensor(residual), list(cell), replaces]
        return [self.name, self.prompt, type(self.edit).__name__, edit, self.labels]


class Candidates(NamedTuple):
    """A relation's candidates: those of its own prompts alone, and those that other relations have a part in."""

    own: list[Candidate]
    of_others: list[Candidate]


@dataclass
class CandidatesOfRelations:
    """Makes every relation's candidates.

    Attributes:
        evaluation: which conditions.
        alpha_unit: what alpha is a multiple of.
        seed: of every draw.
        lm: the model.
        measured: effects and means of every relation.
        ranking: how heads were ranked.
        cells: all cells of the grid.
    """

    evaluation: EvaluationConfig
    alpha_unit: AlphaUnit
    seed: int
    lm: LanguageModel
    measured: Effects
    ranking: Ranking
    cells: Sequence[Cell]
    _made: dict[tuple[str, int, bool], Tensor] = field(default_factory=dict, repr=False)

    def of(self, q_id: str, chosen: Sequence[tuple[Vector, Cell]]) -> Candidates:
        """The candidates of a relation whose vectors have these chosen cells."""
        found = Candidates([Candidate("zero_shot", "zero_shot"), Candidate("few_shot", "clean")], [])
        baselines, means = self.evaluation.baselines, self.measured.means_of(q_id)
        if baselines:
            first = self.cells[0]
            found.own.append(Candidate("few_shot_corrupted", "corrupted"))
            added = LayerMean(means.residual, first, replaces=False)
            found.own.append(Candidate("layer_mean_added", "zero_shot", added))
            replaced = LayerMean(means.residual, Cell(first.layer, 1.0), replaces=True)
            found.own.append(Candidate("layer_mean_replaced", "zero_shot", replaced))
        for vector, cell in chosen:
            is_own = vector.kind == "file" or (vector.kind == "qid" and vector.source_qid == q_id)
            here = found.own if is_own else found.of_others
            compared = _compared_with(vector, q_id, [v for v, _ in chosen])
            here.append(_injected("fv", vector, cell, compared_with=compared.name))
            in_domain = vector.source_qid in (None, q_id)
            if compared is vector:
                for control in self._controls(vector, cell, in_domain):
                    (found.of_others if control.name in OF_OTHERS else here).append(control)
            if in_domain and self.evaluation.necessity:
                here += self._ablations(vector, means.corrupted)
            if in_domain and baselines:
                corrupted = _injected("few_shot_corrupted_fv", vector, cell)
                here.append(replace(corrupted, prompt="corrupted"))
        return found

    def stream(self, q_id: str) -> Stream:
        """The residual stream that injections into a relation's prompts are told against."""
        is_unit = self.alpha_unit is AlphaUnit.residual
        return Stream(self.measured.means_of(q_id).residual_norm, is_unit)

    def _controls(self, vector: Vector, cell: Cell, in_domain: bool) -> Iterator[Candidate]:
        """A vector's controls; of a vector away from its relation only random ones say anything."""
        heads, others = heads_of_vector(self.measured, vector, self.ranking), self._others(vector)
        controls = self.evaluation.controls
        chooses = controls.cell is not ControlCell.same
        for control in make_controls(self.lm, vector, heads, others, controls, self.seed):
            if in_domain or control.name == "random_vector":
                edit = Injected(control.values, cell, chooses)
                labels: dict[str, Any] = {"draw": control.draw, "of": control.of, "all_draws": control.all_draws}
                yield Candidate(control.name, "zero_shot", edit, vector.name, **labels)

    def _others(self, vector: Vector) -> dict[str, Tensor]:
        """The other relations' vectors of the same kind and k; each is made once, for every relation asks for it."""
        if vector.source_qid is None:
            return {}
        k, aie = vector.k or self.ranking.k, vector.kind == "aie_qid"
        others = [q_id for q_id in self.measured.qids if q_id != vector.source_qid]
        for q_id in others:
            if (q_id, k, aie) not in self._made:
                self._made[q_id, k, aie] = vector_of(self.lm, self.measured, q_id, self.ranking, k, aie)
        return {q_id: self._made[q_id, k, aie] for q_id in others}

    def _ablations(self, vector: Vector, corrupted: Tensor) -> Iterator[Candidate]:
        """Top-k heads, and random ones in the same layers, set to their mean over the corrupted prompts."""
        heads = heads_of_vector(self.measured, vector, self.ranking)
        if heads is None:
            return
        yield Candidate("ablated_top_heads", "clean", SetHeads(heads.heads, corrupted), vector.name)
        count = self.evaluation.controls.random_heads
        sets, every = random_head_sets(vector, heads, count, self.seed)
        for draw, drawn in enumerate(sets):
            edit = SetHeads(drawn, corrupted)
            yield Candidate("ablated_random_heads", "clean", edit, vector.name, draw, all_draws=every)


def _injected(name: str, vector: Vector, cell: Cell, compared_with: str | None = None) -> Candidate:
    """The condition `name`: a function vector at its own cell."""
    return Candidate(name, "zero_shot", Injected(vector.values, cell), vector.name, compared_with=compared_with)


def _compared_with(vector: Vector, q_id: str, here: Sequence[Vector]) -> Vector:
    """The vector whose controls a vector is compared with: itself, or of another relation's, the relation's own."""
    if vector.source_qid in (None, q_id):
        return vector
    own = (v for v in here if (v.source_qid, v.kind, v.k) == (q_id, vector.kind, vector.k))
    return next(own, vector)
