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
from fv.evaluation.grid import Grid, Plan, eval_parts, grid_flow, qids_of, trials_of
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


def has_choice(vectors: Sequence[Vector], cells: Sequence[Cell]) -> bool:
    """Whether a cell has to be chosen: there are several, or vectors of several k from one source."""
    return len(cells) > 1 or len({vector.source for vector in vectors}) < len(vectors)


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
        plan: Plan,
        cells: Sequence[Cell],
        n_eval: int | None = None,
        known: pd.DataFrame | None = None,
        held_out: bool = True,
    ) -> Flow[tuple[GridResults, HeldOutRows | None]]:
        """Every vector at every cell on the eval trials of its relations, then the chosen cells on the test trials.

        Args:
            plan: the vectors with their relations.
            cells: layers and alphas.
            n_eval: how many trials of each relation; None for all.
            known: trial rows at some of the cells, which are not computed again.
            held_out: whether cells are chosen and run on the test trials.

        Raises:
            DevTrialsError: a relation has too few trials for two parts.
            NormsError: alpha is a multiple of norms that were not measured.
        """
        parts = self.parts(plan, cells, n_eval)
        found = yield from self.grid_flow(plan, cells, parts, n_eval, known)
        return found, (yield from self.held_out_flow(found)) if held_out else None

    def parts(
        self, plan: Plan, cells: Sequence[Cell], n_eval: int | None = None, choice: bool | None = None
    ) -> dict[str, str]:
        """{trial_id: `dev` or `test`} of the eval trials; all are `test` where there is no choice to be made.

        Args:
            plan: the vectors with their relations.
            cells: layers and alphas.
            n_eval: how many trials of each relation; None for all.
            choice: whether there is a choice; None to tell by vectors and cells.

        Raises:
            DevTrialsError: a relation has too few trials for two parts.
        """
        chosen = has_choice([vector for vector, _ in plan], cells) if choice is None else choice
        dev_fraction = self.settings.dev_fraction if chosen else 0.0
        return eval_parts(self.snapshot, qids_of(plan), n_eval, dev_fraction, self.seed)

    def grid_flow(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        parts: Mapping[str, str],
        n_eval: int | None = None,
        known: pd.DataFrame | None = None,
    ) -> Flow[GridResults]:
        """The first half of `flow`, of trials that have these parts."""
        trials = trials_of(self.lm, self.snapshot, qids_of(plan), n_eval, parts)
        rows = yield from grid_flow(self.engine, Grid(plan, trials, cells, self.norms_of_alpha()), known)
        return GridResults(rows, [vector for vector, _ in plan], cells, parts)

    def held_out_flow(self, found: GridResults) -> Flow[HeldOutRows]:
        """The second half: choose a cell for each (vector, relation) on dev trials, and run it on the test trials."""
        candidates, named = self.candidates(found.cells), {vector.name: vector for vector in found.vectors}
        run = HeldOutRun(self.engine, self.snapshot, candidates, named, choose_cells(found.rows), dict(found.parts))
        return (yield from run.flow())

    def results(self, found: GridResults, rows: HeldOutRows) -> HeldOutResults:
        """Tables and summary of what was run on the test trials."""
        rates = {q_id: each.rate for q_id, each in self.snapshot.meta.first_token_collisions.items()}
        named = {vector.name: vector for vector in found.vectors}
        return held_out_results(rows, named, rates, self.stats, self.seed)

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
