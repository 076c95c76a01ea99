"""Runner of analyses: flow, files and figures."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from fv.analyses.running.analysis import EVERYTHING, Analysis
from fv.analyses.running.inputs import inputs_of
from fv.config.group import Settings, plain
from fv.errors import ArtifactError
from fv.files import read_json, write_whole
from fv.progress import Advance
from fv.runs.analysis_files import META
from fv.runs.completeness import is_complete
from fv.runs.identity import flat
from fv.runs.live_run import LiveRun
from fv.runs.locks import run_lock
from fv.runs.machine import machine_settings, now, versions
from fv.runs.outputs import Outputs
from fv.runs.records import AnalysisRecord, read_record
from fv.runs.step import Place, step
from fv.tables import Tables, arrays_of, tables_of
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = ("png", "svg")
"""Formats of each figure's files."""
log = logging.getLogger(__name__)


def run_analysis(name: str, analysis: Analysis, run: LiveRun) -> Any:
    """Run an analysis into `artifacts/analyses/<name>[/<tag>]/`, unless it is complete.

    Args:
        name: the name of the analysis.
        analysis: the analysis, with its settings.
        run: the run; with its setting `overwrite`, the analysis is made again even if it is complete.

    Returns:
        its summary as JSON (`Analysis.summary`).

    Raises:
        ArtifactError: the run lacks an input, the analysis was made with other settings, or its files were changed.
        FvError: as the analysis does.
    """
    folder = run.paths.analysis(name)
    of_all_tags = not run.paths.tag and analysis.after != "Step6"
    place = Place(f"The analysis {name}", run.paths, folder / META, folder / "analysis.log", on_all_pages=of_all_tags)
    with run_lock(run.paths.root, shared=True):
        inputs = inputs_of(run, analysis.reads)  # refused before the analysis has a folder
        with step(place, lambda: None if _is_made(name, analysis, run, place, inputs) else inputs) as due:
            if due:
                _make(name, analysis, run, place, due)
    return read_json(folder / f"{name}.json")


def _is_made(name: str, analysis: Analysis, run: LiveRun, place: Place, inputs: dict[str, str]) -> bool:
    """True if the analysis is there, made from these inputs, and is not to be made again."""
    if run.settings.overwrite:
        return False
    settings, defaults = _settings(name, analysis), _settings(name, type(analysis)())
    return is_complete(place.title, place.record, AnalysisRecord, settings, inputs, defaults)


def _make(name: str, analysis: Analysis, run: LiveRun, place: Place, inputs: dict[str, str]) -> None:
    fields = {
        "analysis": name,
        "after": analysis.after,
        "seed": run.seed,
        "settings": _settings(name, analysis),
        "inputs": inputs,
        "config": run.settings,
        "model": run.meta.model,
        "compute": machine_settings(run.settings.compute, run.settings.model),
        "versions": versions(),
        "started": now(),
    }
    store = run.units()
    tables = run.driver.run(analysis_flow(name, analysis, run), name, store, run.unfinished and dict(run.unfinished))
    _remove(place)
    outputs = Outputs(place.folder)
    for table, rows in tables.items():
        outputs.csv(f"{table}.csv", rows)
    outputs.json(f"{name}.json", analysis.summary(tables))
    _draw(name, analysis, tables, outputs)
    place.finish(AnalysisRecord, fields, outputs, computed_with=store.machines)
    log.info("%s: %s in %s", place.title, ", ".join(tables) or "no table", place.folder)


def analysis_flow(name: str, analysis: Analysis, run: LiveRun) -> Flow[Tables]:
    """Make the tables of an analysis.

    Args:
        name: the name of the analysis.
        analysis: the analysis, with its settings.
        run: the run.
    """
    own = analysis.flow(run)
    if own is not None:
        return analysis.finish(run, (yield from own))
    jobs = [_job(name, analysis, run, unit) for unit in analysis.units(run)]
    parts = [tables_of(arrays) for (arrays,) in (yield Stage("units", jobs, analysis.quick))]
    names = dict.fromkeys(table for part in parts for table in part)
    tables = {table: _joined([part[table] for part in parts if table in part]) for table in names}
    return analysis.finish(run, tables)


def _settings(name: str, analysis: Analysis) -> Settings:
    return flat({f"analysis.{name}.{own.name}": plain(analysis)[own.name] for own in fields(analysis)})


def _job(name: str, analysis: Analysis, run: LiveRun, unit: Any) -> Job:
    """Make the job of one unit of an analysis."""
    of_relation = isinstance(unit, str) and unit != EVERYTHING
    called = UnitName(name, unit if of_relation else "", "" if of_relation else _label(unit))

    def depends_on() -> list[Any]:
        settings = _settings(name, analysis)
        decisive = {key: value for key, value in settings.items() if key.rpartition(".")[2] not in analysis.counts}
        return [[decisive, inputs_of(run, analysis.reads)], unit]

    def compute(advance: Advance) -> Arrays:
        arrays = arrays_of(analysis.compute(run, unit))
        advance(1)
        return arrays

    return Job.of(Unit(called, depends_on, n_trials=1), compute)


def _label(unit: Any) -> str:
    return unit if isinstance(unit, str) else json.dumps(unit, ensure_ascii=False)


def _joined(tables: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


def _remove(place: Place) -> None:
    """Remove the old files of the analysis: with other settings it may write other files."""
    if not place.record.exists():
        return
    try:
        names = [*read_record(place.record, AnalysisRecord).outputs]
    except ArtifactError:  # the old files are not known, and no record names them
        names = []
    place.begin()
    for name in names:
        (place.folder / name).unlink(missing_ok=True)


def _draw(name: str, analysis: Analysis, tables: Tables, outputs: Outputs) -> None:
    if type(analysis).figures is Analysis.figures:
        return
    if importlib.util.find_spec("matplotlib") is None:
        log.info("The figures of %s are not drawn: pip install 'function-vectors[figures]'.", name)
        return
    drawn: Mapping[str, Figure] = analysis.figures(tables)
    for figure, form in product(drawn, FORMS):
        write_whole(outputs.add(outputs.folder / f"{figure}.{form}"), partial(_save, drawn[figure]))


def _save(figure: "Figure", path: Path) -> None:
    """Save a figure so that the same figure gives the same bytes."""
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": "function-vectors"}), warnings.catch_warnings():
        # If the font lacks a letter, PNG shows a box, and SVG holds the letter itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
