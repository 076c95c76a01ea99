"""What is run on a relation's test trials: the vectors, and what every enabled provider of conditions makes for them.

Conditions made of the relation's own prompts alone, and those that other relations have a part in, are kept apart:
where a run grows by relations, the first stay as they are.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from fv.config import AlphaUnit, ControlCell
from fv.config.evaluation import EvaluationConfig
from fv.errors import ConfigError
from fv.evaluation.candidate import UNEDITED, Candidate, Injected
from fv.evaluation.conditions import ConditionProvider, providers_of
from fv.evaluation.context import RelationContext, VectorContext
from fv.evaluation.settled import Stream
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.vectors.vector import Vector
from fv.vectors.vector_heads import heads_of_vector, vector_of


class Candidates(NamedTuple):
    """A relation's candidates: those of its own prompts alone, and those that other relations have a part in."""

    own: list[Candidate]
    of_others: list[Candidate]


@dataclass
class CandidatesOfRelations:
    """Makes every relation's candidates.

    Attributes:
        evaluation: which conditions, and how they choose their cells.
        alpha_unit: what alpha is a multiple of.
        seed: of every draw.
        lm: the model.
        effects: effects and means of every relation; None where none were measured.
        ranking: how heads were ranked; None where none were measured.
        cells: all cells of the grid.

    Raises:
        ConfigError: there is no condition of a name, or what was not measured is needed.
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
                f"The conditions {', '.join(needing)} are made of effects and means of activations: give effects=, "
                "what fv.indirect_effects found, or leave these conditions out."
            )
        if self.effects is None and self.alpha_unit is AlphaUnit.residual:
            raise ConfigError("alpha_unit=residual needs the norms of the residual stream: give effects=.")

    @cached_property
    def providers(self) -> dict[str, ConditionProvider]:
        """The providers that are enabled, by name."""
        every = providers_of(self.evaluation.conditions)
        return {name: provider for name, provider in every.items() if provider.enabled}

    def of(self, q_id: str, chosen: Sequence[tuple[Vector, Cell]]) -> Candidates:
        """The candidates of a relation whose vectors have these chosen cells.

        Raises:
            ConfigError: two conditions go by one name.
        """
        means = self.effects.means_of(q_id) if self.effects else None
        relation = RelationContext(self.lm, q_id, self.cells, self.seed, means)
        own: list[Candidate] = []
        of_others: list[Candidate] = []
        for provider in self.providers.values():
            (of_others if provider.made_of_others else own).extend(provider.of_relation(relation))
        for vector, cell in chosen:
            is_own = vector.kind == "file" or (vector.kind in ("qid", "heads") and vector.source_qid == q_id)
            here, compared = own if is_own else of_others, _compared_with(vector, q_id, [v for v, _ in chosen])
            here.append(_injected(vector, cell, compared))
            if compared is vector:
                at = self._context(relation, vector, cell)
                for provider in self._providers_for(vector, q_id):
                    (of_others if provider.made_of_others else here).extend(provider.of_vector(at))
        _refuse_twins([*own, *of_others])
        return Candidates(_with_unedited(own, of_others), of_others)

    def stream(self, q_id: str) -> Stream:
        """The residual stream that injections into a relation's prompts are told against."""
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
        """The other relations' vectors of the same kind and k; each is made once, for every relation asks for it."""
        if vector.source_qid is None:
            return {}
        k, aie = vector.k or ranking.k, vector.kind == "aie_qid"
        others = [q_id for q_id in effects.qids if q_id != vector.source_qid]
        for q_id in others:
            if (q_id, k, aie) not in self._made:
                self._made[q_id, k, aie] = vector_of(self.lm, effects, q_id, ranking, k, aie)
        return {q_id: self._made[q_id, k, aie] for q_id in others}


def _injected(vector: Vector, cell: Cell, compared: Vector) -> Candidate:
    """The condition `fv`: a vector at its cell, compared with the controls of another one or of its own."""
    edit = Injected(vector.values, cell)
    return Candidate("fv", "zero_shot", edit, vector.name, compared_with=compared.name, minus=("few_shot",))


def _with_unedited(own: Sequence[Candidate], of_others: Sequence[Candidate]) -> list[Candidate]:
    """The own candidates behind the unedited prompts: the zero-shot and the few-shot one, which every number is told
    against, and any other that an edit is made in or a provider asks for."""
    kinds = {"zero_shot", "clean"} | {candidate.prompt for candidate in (*own, *of_others)}
    unedited = [Candidate(name, prompt) for name, prompt in UNEDITED.items() if prompt in kinds]
    return [*unedited, *(candidate for candidate in own if candidate.name not in UNEDITED)]


def _refuse_twins(candidates: Iterable[Candidate]) -> None:
    counts = Counter((candidate.name, candidate.fv, candidate.draw) for candidate in candidates)
    (name, fv, draw), count = counts.most_common(1)[0]
    if count > 1:
        raise ConfigError(
            f"{count} conditions are called {name} (vector {fv!r}, draw {draw}); each needs another name."
        )


def _compared_with(vector: Vector, q_id: str, here: Sequence[Vector]) -> Vector:
    """The vector whose controls a vector is compared with: itself, or of another relation's, the relation's own."""
    if vector.source_qid in (None, q_id):
        return vector
    own = (v for v in here if (v.source_qid, v.kind, v.k) == (q_id, vector.kind, vector.k))
    return next(own, vector)
