"""Context that providers of conditions receive: a relation, or a vector at its cell on a relation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from fv.data.prompt_kinds import ZERO_SHOT
from fv.errors import ConfigError
from fv.evaluation.candidate import Candidate
from fv.vectors.options import Injected

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
    """Relation whose prompts are run.

    Attributes:
        lm: the model.
        q_id: the relation.
        cells: all cells of the grid, by layer then alpha.
        seed: seed of every draw.
        measured_means: means over the relation's fit prompts; None if effects were not measured.
        weaker: shares of the weakest alpha, and of a full replacement, that controls and baselines may choose, too.
    """

    lm: LanguageModel
    q_id: str
    cells: Sequence[Cell]
    seed: int
    measured_means: RelationMeans | None
    weaker: Sequence[float] = ()

    @cached_property
    def choices(self) -> Sequence[Cell]:
        """Cells that controls and baselines choose among: the grid's and weaker ones, by layer then alpha."""
        from fv.evaluation.cells import weaker_cells

        return weaker_cells(self.cells, self.weaker)

    @property
    def shares(self) -> Sequence[float]:
        """Shares of an edit that baselines choose among: the whole and weaker ones, in order."""
        return sorted({1.0, *self.weaker})

    @property
    def means(self) -> RelationMeans:
        """Means over the relation's fit prompts.

        Raises:
            ConfigError: effects were not measured; providers with `needs_effects` are not called in this case.
        """
        if self.measured_means is None:
            raise ConfigError(f"No means over the prompts of {self.q_id} were measured.")
        return self.measured_means


@dataclass(frozen=True, eq=False)
class VectorContext:
    """Function vector that is injected into a relation's prompts.

    Attributes:
        relation: the relation.
        vector: the vector.
        cell: the cell that was chosen for the vector on this relation.
        heads: the heads and means it was built from; None if not known.
        others: {q_id: vector, (d_model,)}, other relations' vectors of the same kind and k.
        controls_choose: whether controls are injected at their own best cells instead of at the vector's cell.
        ranking: the ranking of heads; None if effects were not measured.
        effects: effects of every relation; None if they were not measured.
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
        """Seed of every draw."""
        return self.relation.seed

    @property
    def values(self) -> Tensor:
        """The vector at its cell's layer, (d_model,)."""
        return self.vector.values_at(self.cell.layer)

    def injected(self, name: str, prompt: str, minus: tuple[str, ...] = ()) -> Candidate:
        """Make the condition `name`: the function vector in one kind of prompt, at the best cell for this kind.

        Arguments as in `Candidate`.
        """
        options = self.vector.options(self.cell, self._choices)
        return Candidate(name, prompt, options, self.vector.name, minus=minus)

    def refit(self, name: str, values: Tensor, draw: int, refit_of: str) -> Candidate:
        """Make the condition `name`: a refit, (d_model,), injected at the cell of the condition `refit_of`.

        The spread of all refits (numbered by `draw`) widens the intervals of `refit_of`.
        """
        options = Injected(values, self.cell)
        return Candidate(name, ZERO_SHOT, options, self.vector.name, draw, all_draws=False, refit_of=refit_of)

    def control(
        self, name: str, values: Tensor, draw: int = 0, of: str | None = None, all_draws: bool = True
    ) -> Candidate:
        """Make the control `name`: a vector, (d_model,), injected in place of the function vector.

        The function vector's contrast subtracts it. `draw`, `of` and `all_draws` as in `Candidate`.

        Raises:
            ConfigError: its shape is not that of the function vector.
        """
        if (shape := tuple(values.shape)) != (due := tuple(self.values.shape)):
            raise ConfigError(f"The condition {name} has a vector of shape {shape}; it must be {due}.")
        options, fv = Injected(values, self.cell, self._choices), self.vector.name
        return Candidate(name, ZERO_SHOT, options, fv, draw, of, all_draws=all_draws, control_of=("fv",))

    @property
    def _choices(self) -> Sequence[Cell]:
        return self.relation.choices if self.controls_choose else ()
