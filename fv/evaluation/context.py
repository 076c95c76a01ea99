"""What providers of conditions are told: a relation, and a vector at its cell on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fv.errors import ConfigError
from fv.evaluation.candidate import At, Candidate, Injected

if TYPE_CHECKING:
    from torch import Tensor

    from fv.heads.activations import RelationMeans
    from fv.heads.effects import Effects
    from fv.heads.ranking import Ranking, VectorHeads
    from fv.interventions.engine import Cell
    from fv.models.language_model import LanguageModel
    from fv.vectors.vector import Vector


@dataclass(frozen=True, eq=False)
class RelationContext:
    """A relation whose prompts are run.

    Attributes:
        lm: the model.
        q_id: the relation.
        cells: all cells of the grid, by layer then alpha.
        seed: of every draw.
        measured_means: means over the relation's fit prompts; None where no effects were measured.
    """

    lm: LanguageModel
    q_id: str
    cells: Sequence[Cell]
    seed: int
    measured_means: RelationMeans | None

    @property
    def means(self) -> RelationMeans:
        """Means over the relation's fit prompts.

        Raises:
            ConfigError: no effects were measured; a provider that `needs_effects` is never asked then.
        """
        if self.measured_means is None:
            raise ConfigError(f"No means over the prompts of {self.q_id} were measured.")
        return self.measured_means


@dataclass(frozen=True, eq=False)
class VectorContext:
    """A function vector that is injected into a relation's prompts.

    Attributes:
        relation: the relation.
        vector: the vector.
        cell: the cell that was chosen for it here.
        heads: what it was made of; None where that is not known.
        others: {q_id: vector, (d_model,)} of the relations that it is not of, each of the same kind and k.
        controls_choose: whether whatever is not the vector in zero-shot prompts is injected at a cell of its own.
        ranking: how heads were ranked; None where none were measured.
        effects: of every relation; None where none were measured.
    """

    relation: RelationContext
    vector: Vector
    cell: Cell
    heads: VectorHeads | None
    others: Mapping[str, Tensor]
    controls_choose: bool
    ranking: Ranking | None = None
    effects: Effects | None = None

    @property
    def lm(self) -> LanguageModel:
        """The model."""
        return self.relation.lm

    @property
    def seed(self) -> int:
        """Of every draw."""
        return self.relation.seed

    def injected(self, name: str, prompt: str, minus: tuple[str, ...] = ()) -> Candidate:
        """The condition `name`: the function vector in a kind of prompt, at the best cell for these prompts. Arguments
        as of `Candidate`."""
        edit = Injected(self.vector.values, self.cell, self._at_own)
        return Candidate(name, prompt, edit, self.vector.name, minus=minus)

    def refit(self, name: str, values: Tensor, draw: int, refit_of: str) -> Candidate:
        """The condition `name`: draw `draw` of a vector, (d_model,), made again from resampled fit trials and injected
        at the cell of the condition `refit_of`, whose intervals their spread widens."""
        edit = Injected(values, self.cell, At.refitted)
        return Candidate(name, "zero_shot", edit, self.vector.name, draw, all_draws=False, refit_of=refit_of)

    def control(
        self, name: str, values: Tensor, draw: int = 0, of: str | None = None, all_draws: bool = True
    ) -> Candidate:
        """The condition `name`: another vector, (d_model,), injected in the function vector's place, and subtracted
        from it. `draw`, `of` and `all_draws` as in `Candidate`.

        Raises:
            ConfigError: it is of another shape than the function vector.
        """
        if (shape := tuple(values.shape)) != (due := tuple(self.vector.values.shape)):
            raise ConfigError(f"The condition {name} has a vector of shape {shape}; it must be {due}.")
        edit, fv = Injected(values, self.cell, self._at_own), self.vector.name
        return Candidate(name, "zero_shot", edit, fv, draw, of, all_draws=all_draws, control_of=("fv",))

    @property
    def _at_own(self) -> At:
        return At.own if self.controls_choose else At.given
