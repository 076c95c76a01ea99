"""The analyses that a step runs by itself, once it has its results."""

import logging
from typing import Any

from fv.analyses import analyses_of
from fv.analyses.running.inputs import lacking
from fv.analyses.running.runner import run_analysis
from fv.runs.live_run import LiveRun

log = logging.getLogger(__name__)


def analyse_after(step: str, run: LiveRun) -> dict[str, Any]:
    """Run the analyses of a step; one that reads what this run has not is left out, and the log says so.

    Args:
        step: `StepD`, `StepE` or `Step6`.
        run: the run.

    Returns:
        {key of the summary: what the analysis found}.

    Raises:
        FvError: as the analyses do.
    """
    summaries = {}
    for name, analysis in analyses_of(run.settings.analysis).items():
        if analysis.after != step:
            continue
        if missing := lacking(run, analysis.reads):
            log.info("The analysis %s is left out: there is no %s.", name, ", ".join(missing))
            continue
        summaries[analysis.summary_key or name] = run_analysis(name, analysis, run)
    return summaries
