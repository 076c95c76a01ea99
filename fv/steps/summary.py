"""Summary of Step6: it writes the tables, runs the analyses, and writes the summary.

A single job and a gathered sweep both use it, so the same rows give the same bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from fv.errors import ConfigError
from fv.evaluation.caveats import caveats
from fv.evaluation.eval_summary import EvalSummary
from fv.evaluation.evaluation import GridResults
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.summary import records, summary_json, with_held_out_intervals
from fv.heads.ranking import Ranking
from fv.models.identity import sentence
from fv.runs.live_run import LiveRun
from fv.runs.records import Step6Record
from fv.runs.step import Place
from fv.runs.step6_files import scope_fields, write_rows, write_summary
from fv.runs.units import memory_warnings
from fv.steps.analyses import analyse_after


def write_results(
    run: LiveRun, place: Place, fields: Mapping[str, Any], found: GridResults, held_out: HeldOutResults | None
) -> None:
    """Write Step6's tables, analyse them, and write the summary.

    Args:
        run: the run; a job of a sweep is analysed when it is gathered.
        place: the place to write into.
        fields: the known fields of its record.
        found: the results of the grid; they may lack vectors.
        held_out: the results on test trials; None for the grid alone.

    Raises:
        FvError: as the analyses do.
    """
    outputs = write_rows(place.folder, found.rows, held_out)
    analysed = {} if run.paths.is_job else analyse_after("Step6", run.read_anew(outputs.hashes()))
    summary = grid_summary(run, found, run.ranking, memory_warnings(fields["computed_with"]))
    values = {**summary.as_json(), **(held_out.summary if held_out else {})}
    if held_out:
        chosen = with_held_out_intervals(pd.DataFrame(summary.chosen), held_out.tables["held_out"])
        values["chosen"] = records(chosen)
    if taken := sorted(values.keys() & analysed.keys()):
        raise ConfigError(f"The summary has a part called {taken[0]}: the analysis needs another summary_key.")
    n_trials = found.rows["trial_id"].nunique()
    whole = EvalSummary.model_validate({**values, **analysed})
    label = write_summary(outputs, run.settings.model.name, whole, n_trials)
    more = {
        **scope_fields(run.settings.eval_scope, run.settings.injection, run.snapshot, whole.eval_qids),
        "n_eval_trials": n_trials,
    }
    place.finish(Step6Record, {**fields, **more}, outputs, copy=f"metadata_step6_{label}.json")


def grid_summary(run: LiveRun, found: GridResults, ranking: Ranking, warnings: Sequence[str] = ()) -> EvalSummary:
    """Make the summary of a grid, with warnings about the limits of its numbers.

    Args:
        run: the run.
        found: the results of the grid; they may lack vectors.
        ranking: the ranking of heads.
        warnings: further warnings.
    """
    settings, stepd = run.settings, run.stepd
    here = stepd.effects.origin
    foreign = [
        sentence(f"The vector {vector.name} is", found_other)
        for vector in found.vectors
        if vector.origin and (found_other := vector.origin.differences(here))
    ]
    mind = caveats(stepd.snapshot, stepd.effects, found.rows, found.vectors, ranking, settings.data.called("split"))
    return EvalSummary(
        **summary_json(found.rows, stepd.effects.residual_norms, settings.stats, settings.seed),
        alpha_unit=settings.injection.alpha_unit.value,
        eval_split=stepd.snapshot.eval_split,
        # Both steps may give the same warning; it is shown once.
        warnings=[*dict.fromkeys([*stepd.warnings, *foreign, *warnings, *mind])],
    )
