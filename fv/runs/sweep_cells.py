"""Cells of a sweep: the folders of its Step6 jobs, which differ in layer and alpha only."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from fv.config.group import Settings
from fv.errors import ArtifactError, shorten
from fv.evaluation.trial_rows import sort_trials
from fv.runs.outputs import verify_outputs
from fv.runs.paths import JOBS
from fv.runs.records import Step6Record, read_record
from fv.runs.refusals import refuse_difference
from fv.runs.step6_files import META, SWEPT, read_trial_rows

log = logging.getLogger(__name__)


def finished_cells(step6: Path) -> list[Path]:
    """Find the folders of finished jobs in a Step6 folder."""
    return sorted(path.parent for path in (step6 / JOBS).glob(f"*/{META}"))


def without_swept(settings: Mapping[str, Any]) -> Settings:
    """The settings that a sweep's jobs have in common."""
    return {key: value for key, value in settings.items() if key not in SWEPT}


def current_cells(cells: Sequence[Path], inputs: Mapping[str, str]) -> list[Path]:
    """The jobs that are not stale; the number of stale jobs is logged.

    Args:
        cells: folders of finished jobs, at least one.
        inputs: {file: SHA-256} of the present inputs of Step6.

    Raises:
        ArtifactError: all jobs are stale: the run has grown since, or an earlier step was made again.
    """
    found = {cell: read_record(cell / META, Step6Record).inputs for cell in cells}
    current = [cell for cell in cells if found[cell] == inputs]
    if not current:
        there = found[cells[0]]
        changed = sorted(name for name in {*inputs, *there} if inputs.get(name) != there.get(name))
        raise ArtifactError(
            f"All finished cells are stale: {shorten(changed)} changed since. The sweep's own command makes them "
            "again, mostly from finished units."
        )
    if len(current) < len(cells):
        log.info("%d cells are stale, and are left out: the run has grown since.", len(cells) - len(current))
    return current


def read_cells(cells: Iterable[Path]) -> dict[Path, Step6Record]:
    """Read the records of a sweep's jobs, and verify their files.

    Raises:
        ArtifactError: jobs differ in more than layer and alpha, or a job's files were changed.
    """
    found = {cell: read_record(cell / META, Step6Record) for cell in sorted(set(cells))}
    first = next(iter(found.values()))
    for cell, record in found.items():
        tell = "A sweep over other settings than layer and alpha needs a tag for each: tag=<name>."
        refuse_difference(without_swept(first.settings), without_swept(record.settings), f"Cell {cell}", tell)
        refuse_difference(first.inputs, record.inputs, f"Cell {cell} (made from other files)", tell)
        verify_outputs(cell, record.outputs, "Step6")
    return found


def read_rows(cells: Iterable[Path]) -> pd.DataFrame:
    """Read the trial rows of all jobs, in the order of a single job over all their layers and alphas."""
    rows = pd.concat([read_trial_rows(cell) for cell in cells], ignore_index=True)
    return sort_trials(rows.drop_duplicates(["trial_id", "fv", "layer", "alpha"]))


def gathered_record(records: Mapping[Path, Step6Record]) -> Step6Record:
    """Make the record of a single job over the layers and alphas of several jobs; it lists these jobs."""
    first = next(iter(records.values()))
    settings = gathered_settings([record.settings for record in records.values()])
    swept = {key.removeprefix("injection."): settings[key] for key in SWEPT}
    config = replace(first.config, injection=replace(first.config.injection, **swept))
    gathered = [cell.name for cell in records]
    return first.model_copy(update={"config": config, "settings": settings, "gathered_cells": gathered})


def gathered_settings(several: Sequence[Mapping[str, Any]]) -> Settings:
    """Make the settings of a single job over the layers and alphas of several, which differ in nothing else."""
    return {**several[0], **{key: _union([settings[key] for settings in several]) for key in SWEPT}}


def _union(values: Sequence[Any]) -> Any:
    """Union of the jobs' values of a swept key, sorted; `all` if any job has `all`."""
    return "all" if "all" in values else sorted({item for value in values for item in value})
