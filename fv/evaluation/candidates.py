"""Candidates for a relation's test trials: the vectors, and the conditions that enabled providers make for them.

Conditions that depend on this relation alone are kept apart from those that depend on other relations as well: when
relations are added to a run, the former need not be computed again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from fv.config import AlphaUnit, ControlCell
from fv.config.evaluation import EvaluationConfig
from fv.data.prompt_kinds import CLEAN, ZERO_SHOT
from fv.errors import ConfigError
from fv.evaluation.candidate import UNEDITED, Candidate
from fv.evaluation.conditions import ConditionProvider, providers_of
from fv.evaluation.context import RelationContext, VectorContext
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.vectors.kinds import HeadsBy
from fv.vectors.stream import Stream
from fv.vectors.vector import Vector
from fv.vectors.vector_heads import heads_of_vector, vector_of


class Candidates(NamedTuple):
    """Candidates of a relation: `own` depend on this relation alone, `of_others` on other relations as well."""

    own: list[Candidate]
    of_others: list[Candidate]


@dataclass
class CandidatesOfRelations:
    """Maker of every relation's candidates.

    Attributes:
        evaluation: settings of the conditions, and of the choice of their cells.
        alpha_unit: the unit of alpha.
        seed: seed of every draw.
        lm: the model.
        effects: effects and means of every relation; None if they were not measured.
        ranking: the ranking of heads; None if effects were not measured.
        cells: all cells of the grid.

    Raises:
        ConfigError: the name of a condition is unknown, or a condition needs effects that were not measured.
    """

    evaluation: EvaluationConfig
    alpha_unit: AlphaUnit
    seed: int
    lm: LanguageModel
    effects: Effects | None
    ranking: Ranking | None
    cells: Sequence[Cell]
    _made: dict[tuple[str, int, bool], Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        needing = [name for name, provider in self.providers.items() if provider.needs_effects]
        if self.effects is None and needing:
            raise ConfigError(
                f"The conditions {', '.join(needing)} need effects and means of activations: pass effects=…, as "
                "fv.indirect_effects returns them, or leave these conditions out."
            )
        if self.effects is None and self.alpha_unit is AlphaUnit.residual:
            raise ConfigError("alpha_unit=residual needs the norms of the residual stream: pass effects=….")

    @cached_property
    def providers(self) -> dict[str, ConditionProvider]:
        """{name: enabled provider}."""
        every = providers_of(self.evaluation.conditions)
        return {name: provider for name, provider in every.items() if provider.enabled}

    def of(self, q_id: str, chosen: Sequence[tuple[Vector, Cell]]) -> Candidates:
        """Make the candidates of a relation for vectors with these chosen cells.

        Raises:
            ConfigError: two conditions have the same name.
        """
        means = self.effects.means_of(q_id) if self.effects else None
        relation = RelationContext(self.lm, q_id, self.cells, self.seed, means, self.evaluation.controls.weaker)
        own: list[Candidate] = []
        of_others: list[Candidate] = []
        for provider in self.providers.values():
            (of_others if provider.made_of_others else own).extend(provider.of_relation(relation))
        for vector, cell in chosen:
            here = of_others if vector.is_of_others(q_id) else own
            compared = _compared_with(vector, q_id, [v for v, _ in chosen])
            here.append(_injected(vector, cell, compared))
            if compared is vector:
                at = self._context(relation, vector, cell)
                for provider in self._providers_for(vector, q_id):
                    (of_others if provider.made_of_others else here).extend(provider.of_vector(at))
        _refuse_twins([*own, *of_others])
        return Candidates(_with_unedited(own, of_others), of_others)

    def stream(self, q_id: str) -> Stream:
        """Residual stream of a relation's prompts; strengths of injections are relative to it."""
        norm = self.effects.means_of(q_id).residual_norm if self.effects else None
        return Stream(norm, self.alpha_unit is AlphaUnit.residual)

    def _providers_for(self, vector: Vector, q_id: str) -> list[ConditionProvider]:
        in_domain = vector.source_qid in (None, q_id)
        return [provider for provider in self.providers.values() if in_domain or provider.away_too]

    def _context(self, relation: RelationContext, vector: Vector, cell: Cell) -> VectorContext:
        heads, others = None, {}
        if self.effects and self.ranking:
            heads = heads_of_vector(self.effects, vector, self.ranking)
            others = self._others(self.effects, self.ranking, vector)
        choose = self.evaluation.controls.cell is not ControlCell.same
        return VectorContext(relation, vector, cell, heads, others, choose, self.ranking, self.effects)

    def _others(self, effects: Effects, ranking: Ranking, vector: Vector) -> dict[str, Tensor]:
        """Other relations' vectors of the same kind and k; none for makers' vectors.

        Each is computed once and kept, as all relations use it.
        """
        if vector.source_qid is None or vector.made_as.heads_by is HeadsBy.none:
            return {}
        k, aie = vector.k or ranking.k, vector.made_as.heads_by is HeadsBy.aie
        others = [q_id for q_id in effects.qids if q_id != vector.source_qid]
        for q_id in others:
            if (q_id, k, aie) not in self._made:
                self._made[q_id, k, aie] = vector_of(self.lm, effects, q_id, ranking, k, aie)
        return {q_id: self._made[q_id, k, aie] for q_id in others}


def _injected(vector: Vector, cell: Cell, compared: Vector) -> Candidate:
    """Condition `fv`: a vector at its cell, compared with the controls of `compared`, itself or another vector."""
    return Candidate(
        "fv", ZERO_SHOT, vector.options(cell), vector.name, compared_with=compared.name, minus=("few_shot",)
    )


def _with_unedited(own: Sequence[Candidate], of_others: Sequence[Candidate]) -> list[Candidate]:
    """Put the unedited baselines before the candidates.

    These are the zero-shot and the few-shot prompt, since all numbers are relative to them, and any other unedited
    prompt that a candidate edits or that a provider yields.
    """
    kinds = {ZERO_SHOT, CLEAN} | {candidate.prompt for candidate in (*own, *of_others)}
    unedited = [Candidate(name, prompt) for name, prompt in UNEDITED.items() if prompt in kinds]
    return [*unedited, *(candidate for candidate in own if candidate.name not in UNEDITED)]


def _refuse_twins(candidates: Iterable[Candidate]) -> None:
    counts = Counter((candidate.name, candidate.fv, candidate.draw) for candidate in candidates)
    (name, fv, draw), count = counts.most_common(1)[0]
    if count > 1:
        raise ConfigError(
            f"{count} conditions are called {name} (vector {fv!r}, draw {draw}); each needs a name of its own."
        )


def _compared_with(vector: Vector, q_id: str, here: Sequence[Vector]) -> Vector:
    """Vector whose controls `vector` is compared with: the relation's own if `vector` is another's, else itself."""
    if vector.source_qid in (None, q_id):
        return vector
    own = (v for v in here if (v.source_qid, v.kind, v.k) == (q_id, vector.kind, vector.k))
    return next(own, vector)
