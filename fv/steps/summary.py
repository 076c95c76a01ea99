"""The second half of Step6: the chosen cells on the test trials, and all results into files.

A single job and a gathered sweep go through here, so the same rows end as the same bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fv.config import Config
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.caveats import caveats
from fv.evaluation.held_out import HeldOutRun
from fv.evaluation.held_out_results import HeldOutResults, held_out_results
from fv.evaluation.selection import choose_cells
from fv.evaluation.summary import summary_json
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults, ranking_of
from fv.runs.step6_files import write_step6
from fv.units import UnitStore
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


def evaluate_held_out(
    config: Config, lm: LanguageModel, engine: Engine, stepd: StepdResults, found: GridResults, units: UnitStore
) -> HeldOutResults:
    """Choose a cell for each (fv, relation) from the grid's rows and run it on the test trials.

    Args:
        config: the configuration of the whole grid.
        lm: the model.
        engine: the engine.
        stepd: StepD's artifacts.
        found: the grid.
        units: finished conditions of relations, to read and to add to.
    """
    evaluation, alpha_unit, seed = config.evaluation, config.injection.alpha_unit, config.seed
    ranking = ranking_of(config, RunPaths.of(config))
    cells, named = sorted({*found.cells}), {vector.name: vector for vector in found.vectors}
    candidates = CandidatesOfRelations(evaluation, alpha_unit, seed, lm, stepd.effects, ranking, cells)
    chosen, parts = choose_cells(found.rows), dict(found.parts)
    run = HeldOutRun(engine, stepd.snapshot, candidates, named, chosen, parts, config.compute.max_rows)
    rates = {q_id: each.rate for q_id, each in stepd.snapshot.meta.first_token_collisions.items()}
    return held_out_results(run.run(units), found.vectors, rates, config.stats, seed)


def write_results(
    folder: Path,
    config: Config,
    stepd: StepdResults,
    rows: pd.DataFrame,
    held_out: HeldOutResults | None,
    meta: dict[str, Any],
) -> None:
    """Summarise, and write Step6's files.

    Args:
        folder: where to.
        config: the configuration of the whole grid.
        stepd: StepD's artifacts.
        rows: trial rows of the grid.
        held_out: what `evaluate_held_out` gave; None for the grid alone.
        meta: the step's metadata so far.
    """
    summary = {
        **summary_json(rows, stepd.effects.residual_norms, config.stats, config.seed),
        "alpha_unit": config.injection.alpha_unit.value,
        "eval_split": stepd.snapshot.eval_split,
        "warnings": [*stepd.warnings, *caveats(stepd.snapshot, stepd.effects, rows, config.data.called("split"))],
        **(held_out.summary if held_out else {}),
    }
    write_step6(folder, config, stepd.snapshot, rows, summary, held_out, meta)
