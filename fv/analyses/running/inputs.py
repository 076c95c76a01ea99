"""Inputs of analyses: tables and other results of a run, each with its digest."""

from collections.abc import Callable, Iterable, Mapping

from fv.errors import ArtifactError, shorten
from fv.files import digest_of
from fv.runs.analysis_files import SETTINGS
from fv.runs.live_run import LiveRun
from fv.runs.paths import SNAPSHOT
from fv.runs.records import STEPD
from fv.runs.step_settings import stats_settings, step6_inputs
from fv.runs.vector_files import vector_hashes

PARTS: Mapping[str, Callable[[LiveRun], dict[str, str]]] = {
    "trials": lambda run: {SNAPSHOT: run.meta.outputs[SNAPSHOT]},
    "effects": lambda run: {STEPD: digest_of(run.meta.outputs)},
    "vectors": lambda run: vector_hashes(run.outputs["StepE"][1]),
    "injected": lambda run: step6_inputs(run.settings.injection, run.paths, run.meta),
}
"""{input other than a table: a function that gives {file, or `stepD` for all of StepD's files: its digest}}."""


def lacking(run: LiveRun, reads: Iterable[str]) -> list[str]:
    """The tables that an analysis reads and a run does not have."""
    return [name for name in reads if name not in (*PARTS, *run.table_files)]


def inputs_of(run: LiveRun, reads: Iterable[str]) -> dict[str, str]:
    """Compute {input of an analysis: its digest}; one input stands for the seed and the settings of intervals.

    Raises:
        ArtifactError: the run lacks a table, or a vector's file is missing or belongs to another run.
    """
    if missing := lacking(run, reads):
        raise ArtifactError(f"{run.paths.root} has no {', '.join(missing)}; it has {shorten(run.tables, 40)}.")
    hashes = {name: run.table_files[name][1] for name in reads if name in run.table_files}
    for name in reads:
        if name in PARTS:
            hashes |= PARTS[name](run)
    return {**hashes, SETTINGS: digest_of([run.seed, stats_settings(run.stats)])}
