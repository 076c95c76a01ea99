"""What Step6 runs: vectors over the grid, then at the cells that the dev trials choose."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from fv.config import Config
from fv.data.sampling import check_tokens
from fv.evaluation.cells import grid
from fv.evaluation.evaluation import Evaluation, GridResults
from fv.evaluation.grid import Scopes
from fv.evaluation.held_out import HeldOutRows
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.runs.engine import engine_of
from fv.runs.evaluation import evaluation_of
from fv.runs.injected import plan_of, vectors_of
from fv.runs.metadata import refuse_other_model
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults
from fv.runs.units import unit_store
from fv.steps.choice import refuse_unfit_evaluation
from fv.work.flow import Flow
from fv.work.store import UnitStore


@dataclass(frozen=True)
class Injections:
    """What a configuration injects into which trials.

    Attributes:
        config: the configuration.
        stepd: StepD's artifacts.
        evaluation: runs the prompts.
        plan: vectors with the relations that they are evaluated on.
        cells: layers and alphas.
        store: finished units.
        known: trial rows at some of the cells, which are not computed again.
        as_cell: whether this is one job of a sweep, which chooses nothing.
    """

    config: Config
    stepd: StepdResults
    evaluation: Evaluation
    plan: Scopes
    cells: list[Cell]
    store: UnitStore
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
        evaluation = evaluation_of(config, lm, engine_of(config, lm, units), stepd)
        return cls(config, stepd, evaluation, plan, cells, units, known, as_cell)

    def flow(self) -> Flow[tuple[GridResults, HeldOutRows | None]]:
        """The grid, and what the chosen cells do on the test trials where such results are asked for."""
        n_eval, evaluation = self.config.injection.n_eval, self.evaluation
        if not self.as_cell:
            return evaluation.flow(self.plan, self.cells, n_eval, self.known, self.config.evaluation.held_out)
        return self._flow_of_cell()

    def _flow_of_cell(self) -> Flow[tuple[GridResults, HeldOutRows | None]]:
        # The cells of a sweep belong to a choice that none of them sees.
        n_eval, evaluation = self.config.injection.n_eval, self.evaluation
        parts = evaluation.parts(self.plan, self.cells, n_eval, choice=True)
        return (yield from evaluation.grid_flow(self.plan, self.cells, parts, n_eval, self.known)), None
