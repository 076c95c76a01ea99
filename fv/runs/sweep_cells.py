"""The folders of a sweep's Step6 jobs, which differ in layer and alpha only, as they are read to be gathered."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter

from fv.config import Config
from fv.errors import ArtifactError, shorten
from fv.evaluation.trial_rows import sort_trials
from fv.runs.identity import flat
from fv.runs.metadata import refuse_difference
from fv.runs.moved import ANALYSES, nested, under_todays_keys
from fv.runs.outputs import verify_outputs
from fv.runs.records import read_meta
from fv.runs.step6_files import META, SWEPT, read_trial_rows

log = logging.getLogger(__name__)


def finished_cells(step6: Path) -> list[Path]:
    """The jobs of sweeps that have finished in a Step6 folder."""
    return sorted(path.parent for path in (step6 / "cells").glob(f"*/{META}"))


def without_swept(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a sweep's jobs have in common."""
    return {key: value for key, value in settings.items() if key not in SWEPT}


def current_cells(cells: Sequence[Path], inputs: Mapping[str, str]) -> list[Path]:
    """The jobs that were made from the run as it is; a line in the log names how many are older.

    Args:
        cells: finished jobs, one or more.
        inputs: {file: SHA-256} of what Step6 reads now.

    Raises:
        ArtifactError: all are older: the run has grown since, or an earlier step was made again.
    """
    found = {cell: read_meta(cell / META)["inputs"] for cell in cells}
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


def read_cells(cells: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """The metadata of a sweep's jobs, each with its files unchanged.

    Raises:
        ArtifactError: jobs differ in more than layer and alpha, or a job's files changed.
    """
    metas = {cell: read_meta(cell / META) for cell in sorted(set(cells))}
    first = next(iter(metas.values()))
    for cell, meta in metas.items():
        tell = "A sweep over other settings than layer and alpha needs a tag for each: tag=<name>."
        refuse_difference(without_swept(first["settings"]), without_swept(meta["settings"]), f"Cell {cell}", tell)
        refuse_difference(first["inputs"], meta["inputs"], f"Cell {cell} (made from other files)", tell)
        verify_outputs(cell, meta["outputs"], "Step6")
    return metas


def read_rows(cells: Iterable[Path]) -> pd.DataFrame:
    """The trial rows of all jobs, as one job over all of their layers and alphas gives them."""
    rows = pd.concat([read_trial_rows(cell) for cell in cells], ignore_index=True)
    return sort_trials(rows.drop_duplicates(["trial_id", "fv", "layer", "alpha"]))


def gathered_meta(metas: Mapping[Path, dict[str, Any]]) -> dict[str, Any]:
    """The metadata of one job over all layers and alphas of these, and which they are."""
    first = next(iter(metas.values()))
    settings = gathered_settings([meta["settings"] for meta in metas.values()])
    injection = {**first["config"]["injection"], **{key.removeprefix("injection."): settings[key] for key in SWEPT}}
    return {
        **first,
        "config": {**first["config"], "injection": injection},
        "settings": settings,
        "gathered_cells": [cell.name for cell in metas],
    }


def gathered_settings(several: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of one job over all layers and alphas of several, which differ in nothing else."""
    return {**several[0], **{key: _union([settings[key] for settings in several]) for key in SWEPT}}


def config_of(meta: Mapping[str, Any]) -> Config:
    """The configuration that a step's metadata records."""
    moved = nested(under_todays_keys(flat({"evaluation": meta["config"]["evaluation"]})))
    if "analysis" not in meta["config"]:
        moved["analysis"] = {**{name: {} for name in ANALYSES}, **moved.get("analysis", {})}
    return TypeAdapter(Config).validate_python({**meta["config"], **moved})


def _union(values: Sequence[Any]) -> Any:
    """All values that the jobs have for a swept key, sorted; `all` stays `all`."""
    return "all" if "all" in values else sorted({item for value in values for item in value})
