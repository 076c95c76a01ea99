"""The analyses that a step runs by itself, once it has its results."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from fv.analyses import Analysis, analyses_of
from fv.analyses.running.analysed_run import AnalysedRun
from fv.analyses.running.runner import run_analysis
from fv.config import Config
from fv.models.language_model import LanguageModel
from fv.runs.engine import with_rows_of
from fv.runs.paths import RunPaths
from fv.runs.records import read_meta
from fv.runs.results import StepdResults
from fv.work.driver import SERIAL, Driver

log = logging.getLogger(__name__)


def analyses_after(step: str, config: Config) -> dict[str, Analysis]:
    """The analyses that are named in a configuration and read the results of a step.

    Raises:
        ConfigError: there is no analysis or no setting of a name, or a value is not possible.
    """
    return {name: own for name, own in analyses_of(config.analysis).items() if own.after == step}


def analyse_after(
    step: str,
    config: Config,
    paths: RunPaths,
    load: Callable[[], LanguageModel],
    found: StepdResults | None = None,
    unfinished: Mapping[str, str] | None = None,
    driver: Driver = SERIAL,
) -> dict[str, Any]:
    """Run the analyses of a step; one that reads what this run has not is left out, and the log says so.

    Args:
        step: `StepD`, `StepE` or `Step6`.
        config: the configuration.
        paths: the run's.
        load: gives the model.
        found: StepD's results, where they are at hand.
        unfinished: {file: SHA-256} of what Step6 has written, where it is at work.
        driver: has the units of the analyses computed.

    Returns:
        {key of the summary: what the analysis found}.

    Raises:
        FvError: as the analyses do.
    """
    config = with_rows_of(config, read_meta(paths.stepd_meta))
    run = AnalysedRun(paths, config, load, unfinished, found)
    summaries = {}
    for name, analysis in analyses_after(step, config).items():
        if lacking := run.lacks(analysis.reads):
            log.info("The analysis %s is left out: there is no %s.", name, ", ".join(lacking))
            continue
        summaries[analysis.summary_key or name] = run_analysis(name, analysis, run, driver)
    return summaries
