"""Analyses that a step runs by itself after it has its results."""

import logging
from typing import Any

from fv.analyses import analyses_of
from fv.analyses.running.inputs import lacking
from fv.analyses.running.runner import run_analysis
from fv.runs.live_run import LiveRun

log = logging.getLogger(__name__)


def analyse_after(step: str, run: LiveRun) -> dict[str, Any]:
    """Run the analyses of a step; leave out and log an analysis whose inputs the run does not have.

    Args:
        step: `StepD`, `StepE` or `Step6`.
        run: the run.

    Returns:
        {key in the summary: the analysis's summary}.

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
