"""An evaluation: what is injected into whom, run as a grid over all eval trials, then at the chosen cells on test
trials beside controls and baselines. A step and a notebook run the same one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from fv.config import AlphaUnit, EvaluationConfig, StatsConfig
from fv.data.snapshot import Snapshot
from fv.errors import NormsError
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.cost import conditions_as_run, encoded_alike, injection_cost
from fv.evaluation.grid import Grid, Plan, eval_parts, evaluate_vectors, qids_of, trials_of
from fv.evaluation.held_out import HeldOutRun
from fv.evaluation.held_out_results import HeldOutResults, held_out_results
from fv.evaluation.selection import choose_cells
from fv.evaluation.transfer import transfer_tables
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.tables import Tables
from fv.units import NO_UNITS, UnitStore
from fv.vectors.vector import Vector


class GridResults(NamedTuple):
    """A grid that was run.

    Attributes:
        rows: its trial rows.
        vectors: what was injected.
        cells: layers and alphas.
        parts: {trial_id: `dev` or `test`}.
    """

    rows: pd.DataFrame
    vectors: Sequence[Vector]
    cells: Sequence[Cell]
    parts: Mapping[str, str]


@dataclass(frozen=True)
class Evaluation:
    """What every part of an evaluation has in common.

    Attributes:
        lm: the model.
        engine: runs its prompts.
        snapshot: the trials.
        settings: what vectors are compared with.
        ranking: how heads were ranked.
        effects: of the relations, where they are known: some controls are made of them.
        alpha_unit: what alpha is a multiple of.
        stats: level, resamples and method of intervals.
        seed: of every draw.
        units: finished pieces, to read and to add to.
        name: what the grid's progress bar is called.
    """

    lm: LanguageModel
    engine: Engine
    snapshot: Snapshot
    settings: EvaluationConfig
    ranking: Ranking
    effects: Effects | None = None
    alpha_unit: AlphaUnit = AlphaUnit.vector
    stats: StatsConfig = field(default_factory=StatsConfig)
    seed: int = 42
    units: UnitStore = NO_UNITS
    name: str = "Grid"

    def grid(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        n_eval: int | None = None,
        dev_fraction: float = 0.0,
        known: pd.DataFrame | None = None,
        parts: Mapping[str, str] | None = None,
    ) -> GridResults:
        """Every vector at every cell on the eval trials of its relations.

        Args:
            plan: the vectors with their relations.
            cells: layers and alphas.
            n_eval: how many trials of each relation; None for all.
            dev_fraction: the share of them that a cell is chosen on; 0 where there is no choice to be made.
            known: trial rows at some of the cells, which are not computed again.
            parts: {trial_id: `dev` or `test`}; None to draw them.

        Raises:
            DevTrialsError: a relation has too few trials for two parts.
            NormsError: alpha is a multiple of norms that were not measured.
        """
        qids = qids_of(plan)
        if parts is None:
            parts = eval_parts(self.snapshot, qids, n_eval, dev_fraction, self.seed)
        trials = trials_of(self.lm, self.snapshot, qids, n_eval, parts)
        grid = Grid(plan, trials, cells, self.norms_of_alpha())
        rows = evaluate_vectors(self.name, self.engine, grid, self.units, known)
        return GridResults(rows, [vector for vector, _ in plan], cells, parts)

    def held_out(self, found: GridResults) -> HeldOutResults:
        """Choose a cell for each (vector, relation) from the grid's dev trials, and run it on the test trials."""
        rates = {q_id: each.rate for q_id, each in self.snapshot.meta.first_token_collisions.items()}
        run = self.held_out_run(found)
        return held_out_results(run.run(self.units), run.vectors, rates, self.stats, self.seed)

    def held_out_run(self, found: GridResults) -> HeldOutRun:
        """What runs the chosen cells on the test trials."""
        candidates, named = self.candidates(found.cells), {vector.name: vector for vector in found.vectors}
        return HeldOutRun(self.engine, self.snapshot, candidates, named, choose_cells(found.rows), dict(found.parts))

    def candidates(self, cells: Sequence[Cell]) -> CandidatesOfRelations:
        """What makes the conditions on test trials, of a grid of these cells."""
        every = sorted({*cells})
        return CandidatesOfRelations(
            self.settings, self.alpha_unit, self.seed, self.lm, self.effects, self.ranking, every
        )

    def costs(
        self, q_id: str, vectors: Sequence[Vector], cells: Sequence[Cell], trials: pd.DataFrame, texts: Sequence[str]
    ) -> pd.DataFrame:
        """What the conditions of a relation change in unrelated texts: `fv.evaluation.cost.injection_cost`.

        Args:
            q_id: the relation.
            vectors: what was injected.
            cells: the grid's.
            trials: trial rows of every condition, `HeldOutResults.trials`.
            texts: one or more.
        """
        ids = encoded_alike(self.lm, texts, self.snapshot.meta.add_special_tokens)
        parts = conditions_as_run(self.candidates(cells), q_id, vectors, trials)
        costs = [injection_cost(self.engine, conditions, ids, q_id) for conditions in parts if conditions]
        return pd.concat(costs, ignore_index=True)

    def transfer(self, found: HeldOutResults, vectors: Sequence[Vector]) -> Tables:
        """`fv.evaluation.transfer.transfer_tables` of the vectors that were injected."""
        means, contrasts = found.tables["held_out"], found.tables["contrasts"]
        clusters = self.snapshot.meta.clusters
        return transfer_tables(found.trials, means, contrasts, vectors, self.stats, self.seed, clusters)

    def norms_of_alpha(self) -> dict[str, Tensor] | None:
        """{q_id: norm of its residual stream behind each block, (n_layers,)} that alpha is a multiple of; None where
        it is a factor on the vector as it is.

        Raises:
            NormsError: these norms were not measured.
        """
        if self.alpha_unit is AlphaUnit.vector:
            return None
        if self.effects is None:
            raise NormsError("alpha_unit=residual needs the norms of the residual stream: give effects=.")
        norms = self.effects.residual_norms
        found = {q_id: norm for q_id, norm in norms.items() if norm is not None}
        if not found or len(found) < len(norms):
            raise NormsError("alpha_unit=residual needs the norms of the residual stream, and they were not measured.")
        return found
