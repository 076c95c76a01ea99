"""The second half of Step6: what was measured and what is made of it, into files.

A single job and a gathered sweep go through here, so the same rows end as the same bytes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from fv.config import Config
from fv.errors import ConfigError
from fv.evaluation.caveats import caveats
from fv.evaluation.evaluation import GridResults
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.summary import records, summary_json, with_held_out_intervals
from fv.heads.ranking import Ranking
from fv.models.identity import sentence
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults, ranking_of
from fv.runs.step6_files import write_rows, write_summary
from fv.runs.units import memory_warnings
from fv.steps.analyses import analyse_after
from fv.work.driver import SERIAL, Driver


def write_results(  # noqa: PLR0913 - what a step has at its end
    paths: RunPaths,
    config: Config,
    stepd: StepdResults,
    found: GridResults,
    held_out: HeldOutResults | None,
    meta: dict[str, Any],
    load: Callable[[], LanguageModel] | None,
    driver: Driver = SERIAL,
) -> None:
    """Write Step6's tables, analyse them, and write the summary.

    Args:
        paths: the run's; its `step6` is where to.
        config: the configuration of the whole grid.
        stepd: StepD's artifacts.
        found: the grid that was run; its vectors as far as they are at hand.
        held_out: what `Evaluation.held_out` gave; None for the grid alone.
        meta: the step's metadata so far.
        load: gives the model to the analyses; None for one job of a sweep, which is analysed when it is gathered.
        driver: has the units of analyses computed.

    Raises:
        FvError: as the analyses do.
    """
    outputs = write_rows(paths.step6, found.rows, held_out)
    analysed = analyse_after("Step6", config, paths, load, stepd, outputs.hashes(), driver) if load else {}
    grid = grid_summary(config, stepd, found, memory_warnings(meta.get("computed_with", [])))
    summary = {**grid, **(held_out.summary if held_out else {})}
    if held_out:
        summary["chosen"] = records(with_held_out_intervals(pd.DataFrame(grid["chosen"]), held_out.tables["held_out"]))
    if taken := sorted(summary.keys() & analysed.keys()):
        raise ConfigError(f"The summary has a part called {taken[0]}: the analysis needs another summary_key.")
    n_trials = found.rows["trial_id"].nunique()
    write_summary(outputs, config, stepd.snapshot, n_trials, {**summary, **analysed}, meta)


def grid_summary(
    config: Config,
    stepd: StepdResults,
    found: GridResults,
    warnings: Sequence[str] = (),
    ranking: Ranking | None = None,
) -> dict[str, Any]:
    """The summary of a grid, as JSON, with what its numbers do not show.

    Args:
        config: the configuration of the whole grid.
        stepd: StepD's artifacts.
        found: the grid that was run; its vectors as far as they are at hand.
        warnings: what else is to be said in its `warnings`.
        ranking: how heads were ranked; None for what StepE recorded.
    """
    ranking, name = ranking or ranking_of(config, RunPaths.of(config)), config.data.called("split")
    here = stepd.effects.origin
    foreign = [
        sentence(f"The vector {vector.name} is", found_other)
        for vector in found.vectors
        if vector.origin and (found_other := vector.origin.differences(here))
    ]
    mind = caveats(stepd.snapshot, stepd.effects, found.rows, found.vectors, ranking, name)
    return {
        **summary_json(found.rows, stepd.effects.residual_norms, config.stats, config.seed),
        "alpha_unit": config.injection.alpha_unit.value,
        "eval_split": stepd.snapshot.eval_split,
        # Of both steps, each once.
        "warnings": [*dict.fromkeys([*stepd.warnings, *foreign, *warnings, *mind])],
    }
