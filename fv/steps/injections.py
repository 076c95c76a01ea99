"""What Step6 runs: vectors over the grid, then at the cells that the dev trials choose."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from fv.config import Config
from fv.data.sampling import check_tokens
from fv.evaluation.cells import grid
from fv.evaluation.grid import Plan, qids_of
from fv.evaluation.held_out import HeldOutRun
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.plan import Evaluation, GridResults
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.runs.engine import engine_of
from fv.runs.evaluation import evaluation_of
from fv.runs.injected import plan_of, vectors_of
from fv.runs.metadata import refuse_other_model
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults
from fv.runs.units import unit_store
from fv.steps.choice import has_choice, refuse_unfit_evaluation


@dataclass(frozen=True)
class Injections:
    """What a configuration injects into which trials.

    Attributes:
        config: the configuration.
        stepd: StepD's artifacts.
        evaluation: runs the prompts.
        plan: vectors with the relations that they are evaluated on.
        cells: layers and alphas.
        known: trial rows at some of the cells, which are not computed again.
        as_cell: whether this is one job of a sweep, which chooses nothing.
    """

    config: Config
    stepd: StepdResults
    evaluation: Evaluation
    plan: Plan
    cells: list[Cell]
    known: pd.DataFrame | None = None
    as_cell: bool = False

    @classmethod
    def of(
        cls,
        config: Config,
        paths: RunPaths,
        lm: LanguageModel,
        stepd_meta: dict[str, Any],
        known: pd.DataFrame | None = None,
        as_cell: bool = False,
    ) -> "Injections":
        """Those of a run whose StepD and StepE are finished.

        Raises:
            FvError: the model is not the run's, StepD's or StepE's files were changed, a q_id or layer is not possible,
                or there are no trials to choose on.
        """
        refuse_other_model(stepd_meta, lm, paths)
        stepd = StepdResults.read(paths, stepd_meta)
        check_tokens(stepd.snapshot, lm, paths.snapshot)
        cells = grid(config.injection, lm.n_layers)
        if config.evaluation.held_out and not as_cell:
            refuse_unfit_evaluation(config, cells)
        plan = plan_of(config, stepd.snapshot, vectors_of(config, paths, lm, stepd))
        units = unit_store(config, lm)
        evaluation = evaluation_of("Step6", config, lm, engine_of(config, lm, units), stepd, units)
        return cls(config, stepd, evaluation, plan, cells, known, as_cell)

    @cached_property
    def dev_fraction(self) -> float:
        """The share of eval trials that a cell is chosen on."""
        # The cells of a sweep belong to a choice that none of them sees.
        chosen = self.as_cell or has_choice(self.config, self.cells)
        return self.config.evaluation.dev_fraction if chosen else 0.0

    @property
    def qids(self) -> list[str]:
        """The relations that are evaluated on."""
        return qids_of(self.plan)

    def grid(self, qids: Collection[str] | None = None, names: Collection[str] | None = None) -> GridResults:
        """The grid, or its part of some relations and vectors."""
        n_eval, known = self.config.injection.n_eval, self.known
        if qids is None:
            return self.evaluation.grid(self.plan, self.cells, n_eval, self.dev_fraction, known)
        plan = [
            (vector, [q_id for q_id in on if q_id in qids])
            for vector, on in self.plan
            if names is None or vector.name in names
        ]
        plan = [(vector, on) for vector, on in plan if on]
        if known is not None:
            known = known[known["eval_qid"].isin(qids) & known["fv"].isin([vector.name for vector, _ in plan])]
        return self.evaluation.grid(plan, self.cells, n_eval, self.dev_fraction, known)

    def held_out_run(self, q_id: str) -> HeldOutRun:
        """What runs a relation's chosen cells on its test trials, once its grid is finished."""
        return self.evaluation.held_out_run(self.grid([q_id]))

    def held_out(self, found: GridResults) -> HeldOutResults | None:
        """What the chosen cells do on the test trials; None where no such results are asked for."""
        asked = self.config.evaluation.held_out and not self.as_cell
        return self.evaluation.held_out(found) if asked else None
