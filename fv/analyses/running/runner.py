"""Runs one analysis: what is finished is not made again, and what is made is written whole, its metadata last."""

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

from fv.analyses.running.analysed_run import AnalysedRun
from fv.analyses.running.analysis import EVERYTHING, Analysis
from fv.config.group import plain
from fv.errors import ArtifactError
from fv.files import read_json, write_whole
from fv.progress import Advance
from fv.runs.analysis_files import META
from fv.runs.identity import flat
from fv.runs.locks import locked, run_lock
from fv.runs.logs import log_to_file
from fv.runs.metadata import finished, forget_pages, is_complete, machine_settings, now, versions
from fv.runs.outputs import Outputs
from fv.runs.paths import RunPaths
from fv.runs.records import read_meta, write_meta
from fv.runs.units import units_of_run
from fv.tables import Tables, arrays_of, tables_of
from fv.work.driver import SERIAL, Driver
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName, UnitStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = ("png", "svg")
"""How each figure is written."""
log = logging.getLogger(__name__)


def run_analysis(name: str, analysis: Analysis, run: AnalysedRun, driver: Driver = SERIAL) -> Any:
    """Run an analysis of a run into `artifacts/analyses/<name>[/<tag>]/`, unless it is there.

    Args:
        name: what it is called.
        analysis: its settings.
        run: the run; its setting `overwrite` says whether to make the analysis again whatever is there.
        driver: has its units computed.

    Returns:
        what it found, as JSON: `Analysis.summary`.

    Raises:
        ArtifactError: the run has no such results, the analysis is there with other settings, or its files were
            changed.
        FvError: as the analysis does.
    """
    with run_lock(run.paths.root, shared=True):
        return _run(name, analysis, run, driver)


def _run(name: str, analysis: Analysis, run: AnalysedRun, driver: Driver) -> Any:
    folder, inputs = run.paths.analysis(name), run.inputs(analysis.reads)
    settings = _settings(name, analysis)
    what = f"The analysis {name}"
    with locked(folder), log_to_file(folder / "analysis.log"):
        if is_made(name, analysis, run):
            log.info("%s in %s is complete already.", what, folder)
            return read_json(folder / f"{name}.json")
        started = now()
        store = store_of(run)
        tables = driver.run(analysis_flow(name, analysis, run), name, store, run.unfinished and dict(run.unfinished))
        _remove(folder, run.paths, of_all_tags=not run.paths.tag and analysis.after != "Step6")
        outputs, found = Outputs(folder), analysis.summary(tables)
        for table, rows in tables.items():
            outputs.csv(f"{table}.csv", rows)
        outputs.json(f"{name}.json", found)
        _draw(name, analysis, tables, outputs)
        meta = {
            "schema_version": 1,
            "analysis": name,
            "after": analysis.after,
            "seed": run.seed,
            "settings": settings,
            "inputs": inputs,
            "config": run.settings.resolved(),
            "model": run.meta["model"],
            "compute": machine_settings(run.settings),
            "versions": versions(),
            "started": started,
        }
        write_meta(folder / META, finished(meta, outputs, computed_with=store.machines))
        log.info("%s: %s in %s", what, ", ".join(tables) or "no table", folder)
    return read_json(folder / f"{name}.json")


def is_made(name: str, analysis: Analysis, run: AnalysedRun) -> bool:
    """Whether an analysis is there, of the run's results as they are.

    Raises:
        ArtifactError: it is there with other settings, or its files were changed.
    """
    settings, defaults = _settings(name, analysis), _settings(name, type(analysis)())
    meta, inputs = run.paths.analysis(name) / META, run.inputs(analysis.reads)
    return is_complete(f"The analysis {name}", meta, settings, inputs, run.settings.overwrite, defaults)


def store_of(run: AnalysedRun) -> UnitStore:
    """The units of the analyses of a run."""
    return units_of_run(run.paths, run.meta, run.settings)


def analysis_flow(name: str, analysis: Analysis, run: AnalysedRun) -> Flow[Tables]:
    """Makes the tables of an analysis.

    Args:
        name: what the analysis is called.
        analysis: its settings.
        run: the run.
    """
    jobs = [_job(name, analysis, run, unit) for unit in analysis.units(run)]
    parts = [tables_of(arrays) for (arrays,) in (yield Stage("units", jobs, analysis.quick))]
    names = dict.fromkeys(table for part in parts for table in part)
    tables = {table: _joined([part[table] for part in parts if table in part]) for table in names}
    return analysis.finish(run, tables)


def _settings(name: str, analysis: Analysis) -> dict[str, Any]:
    return flat({f"analysis.{name}.{own.name}": plain(analysis)[own.name] for own in fields(analysis)})


def _job(name: str, analysis: Analysis, run: AnalysedRun, unit: Any) -> Job:
    """One piece of an analysis, a JSON value."""
    of_relation = isinstance(unit, str) and unit != EVERYTHING
    called = UnitName(name, unit if of_relation else "", "" if of_relation else _label(unit))

    def depends_on() -> list[Any]:
        settings = _settings(name, analysis)
        decisive = {key: value for key, value in settings.items() if key.rpartition(".")[2] not in analysis.counts}
        return [[decisive, run.inputs(analysis.reads)], unit]

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


def _remove(folder: Path, paths: RunPaths, of_all_tags: bool) -> None:
    """Remove what the analysis wrote before, the metadata first, and the pages that show it: other settings may give
    other files."""
    if (folder / META).exists():
        try:
            names = [*read_meta(folder / META).get("outputs", {})]
        except ArtifactError:  # what it wrote is not known then, and named by nothing that is read
            names = []
        (folder / META).unlink()
        forget_pages(paths, of_all_tags)
        for name in names:
            (folder / name).unlink(missing_ok=True)


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
        # Of a letter that the font lacks, PNG shows a box; SVG holds the letter itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
