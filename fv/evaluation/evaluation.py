"""Evaluation of vectors: a grid over all eval trials, then the chosen cells on test trials with controls and baselines.

Steps and notebooks run the same evaluation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import pandas as pd
from torch import Tensor

from fv.config import AlphaUnit, EvaluationConfig, StatsConfig
from fv.data.snapshot import Snapshot
from fv.errors import ConfigError
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.cost import conditions_as_run, injection_cost
from fv.evaluation.grid import Grid, Scopes, eval_parts, grid_flow, qids_of, trials_of
from fv.evaluation.held_out import HeldOutRows, HeldOutRun
from fv.evaluation.held_out_results import HeldOutResults, held_out_results
from fv.evaluation.selection import choose_cells
from fv.evaluation.transfer import transfer_tables
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.tables import Tables
from fv.vectors.vector import Vector
from fv.work.flow import Flow


class GridResults(NamedTuple):
    """Results of a grid.

    Attributes:
        rows: its trial rows.
        vectors: the injected vectors.
        cells: the grid's (layer, alpha) cells.
        parts: {trial_id: `dev` or `test`}.
    """

    rows: pd.DataFrame
    vectors: Sequence[Vector]
    cells: Sequence[Cell]
    parts: Mapping[str, str]


def has_choice(vectors: Sequence[Vector], cells: Sequence[Cell]) -> bool:
    """Tell whether there is a choice: several cells, or several vectors of one source that differ in k."""
    return len(cells) > 1 or len({vector.source for vector in vectors}) < len(vectors)


@dataclass(frozen=True)
class Evaluation:
    """Inputs and settings that all parts of an evaluation share.

    Attributes:
        lm: the model.
        engine: the engine that runs the prompts.
        snapshot: the trials.
        settings: the conditions that vectors are compared with.
        ranking: the ranking that chose the vectors' heads.
        effects: effects of the relations, which some controls need; None if they are not known.
        alpha_unit: the unit of alpha.
        stats: level, resamples and method of intervals.
        seed: seed of every draw.
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

    def flow(
        self,
        scopes: Scopes,
        cells: Sequence[Cell],
        n_eval: int | None = None,
        known: pd.DataFrame | None = None,
        held_out: bool = True,
    ) -> Flow[tuple[GridResults, HeldOutRows | None]]:
        """Run every vector at every cell on the eval trials of its relations, then the chosen cells on test trials.

        Args:
            scopes: the vectors with their relations.
            cells: the grid's (layer, alpha) cells.
            n_eval: number of eval trials per relation; None for all.
            known: trial rows at some of the cells, which are not computed again.
            held_out: whether cells are chosen and run on the test trials.

        Raises:
            DevTrialsError: a relation has too few trials to be divided into two parts.
            ConfigError: alpha is relative to norms of the residual stream, and there are no effects.
        """
        parts = self.parts(scopes, cells, n_eval)
        found = yield from self.grid_flow(scopes, cells, parts, n_eval, known)
        return found, (yield from self.held_out_flow(found)) if held_out else None

    def parts(
        self, scopes: Scopes, cells: Sequence[Cell], n_eval: int | None = None, choice: bool | None = None
    ) -> dict[str, str]:
        """Divide the eval trials: {trial_id: `dev` or `test`}; all are `test` if there is no choice to make.

        Args:
            scopes: the vectors with their relations.
            cells: the grid's (layer, alpha) cells.
            n_eval: number of eval trials per relation; None for all.
            choice: whether there is a choice to make; None to decide it from vectors and cells (`has_choice`).

        Raises:
            DevTrialsError: a relation has too few trials to be divided into two parts.
        """
        chosen = has_choice([vector for vector, _ in scopes], cells) if choice is None else choice
        dev_fraction = self.settings.dev_fraction if chosen else 0.0
        return eval_parts(self.snapshot, qids_of(scopes), n_eval, dev_fraction, self.seed)

    def grid_flow(
        self,
        scopes: Scopes,
        cells: Sequence[Cell],
        parts: Mapping[str, str],
        n_eval: int | None = None,
        known: pd.DataFrame | None = None,
    ) -> Flow[GridResults]:
        """Run the first half of `flow`: the grid, on trials divided into these parts."""
        trials = trials_of(self.lm, self.snapshot, qids_of(scopes), n_eval, parts)
        rows = yield from grid_flow(self.engine, Grid(scopes, trials, cells, self.norms_of_alpha()), known)
        return GridResults(rows, [vector for vector, _ in scopes], cells, parts)

    def held_out_flow(self, found: GridResults) -> Flow[HeldOutRows]:
        """Run the second half of `flow`: choose a cell per (vector, relation) on dev trials, run it on test trials."""
        candidates, named = self.candidates(found.cells), {vector.name: vector for vector in found.vectors}
        run = HeldOutRun(self.engine, self.snapshot, candidates, named, choose_cells(found.rows), dict(found.parts))
        return (yield from run.flow())

    def results(self, found: GridResults, rows: HeldOutRows) -> HeldOutResults:
        """Build the tables and the summary of the test trials' results."""
        rates = {q_id: each.rate for q_id, each in self.snapshot.meta.first_token_collisions.items()}
        named = {vector.name: vector for vector in found.vectors}
        return held_out_results(rows, named, rates, self.stats, self.seed)

    def candidates(self, cells: Sequence[Cell]) -> CandidatesOfRelations:
        """Maker of the conditions that are run on test trials, for a grid of these cells."""
        every = sorted({*cells})
        return CandidatesOfRelations(
            self.settings, self.alpha_unit, self.seed, self.lm, self.effects, self.ranking, every
        )

    def costs(
        self,
        q_id: str,
        vectors: Sequence[Vector],
        cells: Sequence[Cell],
        trials: pd.DataFrame,
        texts: Sequence[Sequence[int]],
    ) -> pd.DataFrame:
        """Measure the changes that a relation's conditions cause in unrelated texts (`cost.injection_cost`).

        Args:
            q_id: the relation.
            vectors: the injected vectors.
            cells: the grid's (layer, alpha) cells.
            trials: trial rows of every condition, `HeldOutResults.trials`.
            texts: token ids of one or more texts (`cost.encoded_alike`).
        """
        parts = conditions_as_run(self.candidates(cells), q_id, vectors, trials)
        costs = [injection_cost(self.engine, conditions, texts, q_id) for conditions in parts if conditions]
        return pd.concat(costs, ignore_index=True)

    def transfer(self, found: HeldOutResults, vectors: Sequence[Vector]) -> Tables:
        """Tables of transfer between relations of the injected vectors (`fv.evaluation.transfer.transfer_tables`)."""
        means, contrasts = found.tables["held_out"], found.tables["contrasts"]
        clusters = self.snapshot.meta.clusters
        return transfer_tables(found.trials, means, contrasts, vectors, self.stats, self.seed, clusters)

    def norms_of_alpha(self) -> dict[str, Tensor] | None:
        """{q_id: mean norm of its residual stream after each block, (n_layers,)}, if alpha is relative to these norms.

        None if alpha itself is the factor on the vector.

        Raises:
            ConfigError: there are no effects, which these norms belong to.
        """
        if self.alpha_unit is AlphaUnit.vector:
            return None
        if self.effects is None:
            raise ConfigError("alpha_unit=residual needs the norms of the residual stream: pass effects=….")
        return self.effects.residual_norms
