"""Finished runs: their tables, trials, effects, vectors and results, each verified when it is read."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from fv.characters import visible
from fv.config import Config
from fv.data.origin import Origin
from fv.data.snapshot import read_snapshot
from fv.data.trials import Trials
from fv.errors import ArtifactError, shorten
from fv.evaluation.eval_summary import EvalSummary
from fv.evaluation.result import Result
from fv.files import digest_of, read_json, read_jsonl, reading
from fv.heads.effects import Effects
from fv.markup import paragraph
from fv.runs.analysis_files import AnalysisOutputs, read_analyses
from fv.runs.commands import command
from fv.runs.outputs import verify_outputs
from fv.runs.paths import SNAPSHOT, RunPaths, paths_of_step6, refuse_links, run_folder
from fv.runs.records import STEPD, Hashes, Step6Record, StepDRecord, read_record
from fv.runs.results import StepdResults
from fv.runs.step6_files import META, TRIALS, read_trial_rows
from fv.runs.step_outputs import StepOutputs, read_steps
from fv.runs.table_files import read_table
from fv.runs.vector_files import stored_vectors
from fv.vectors.vector import Vector

log = logging.getLogger(__name__)
HELD_OUT_TRIALS = "held_out_trials.jsonl"


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, opened for reading; it has only the results of the steps that have finished.

    Attributes:
        paths: the paths of its files.

    Example:
        >>> run = fv.open_run("results_fv/relation/demo")
        >>> run.table("contrasts").columns[:3].tolist()
        ['fv', 'eval_qid', 'condition']
    """

    paths: RunPaths

    @cached_property
    def steps(self) -> dict[str, StepOutputs]:
        """{step: its outputs} of the steps that have begun, including stale ones.

        Raises:
            ArtifactError: a record is damaged.
        """
        return read_steps(self.paths)

    @cached_property
    def stale(self) -> list[str]:
        """One sentence per stale step and analysis, which was made from older files and is not shown."""
        analyses = [
            f"The analysis {name} is stale: what it read has changed since; {command('analyse', f'analysis=[{name}]')}"
            f" run_id={self.paths.root.name} makes it again."
            for name, made in self._every_analysis.items()
            if name not in self.analyses
        ]
        return [*(each.stale for each in self.steps.values() if each.changed), *analyses]

    @cached_property
    def meta(self) -> StepDRecord:
        """The record of StepD: its settings, model, machine and versions."""
        record = self.step("StepD").record
        assert isinstance(record, StepDRecord)
        return record

    def step(self, name: str) -> StepOutputs:
        """The outputs of a finished step: `StepD`, `StepE` or `Step6`.

        Raises:
            ArtifactError: the step has not finished, its record is damaged, or it is stale.
        """
        found = self.steps.get(name)
        if found is None or not found.record.is_finished:
            raise ArtifactError(f"{name} has not run in {self.paths.root}, or has not finished.")
        if found.changed:
            raise ArtifactError(found.stale)
        return found

    @cached_property
    def config(self) -> Config:
        """The settings of its last step, under its tag if it has one."""
        return self.step([*self._current][-1] if self._current else "StepD").record.config

    @cached_property
    def outputs(self) -> dict[str, tuple[Path, Hashes]]:
        """{step: its folder, and the SHA-256 of each of its files} of the finished steps that are not stale."""
        return {name: (step.folder, step.hashes) for name, step in self._current.items()}

    @property
    def _current(self) -> dict[str, StepOutputs]:
        return {name: step for name, step in self.steps.items() if step.is_current}

    @cached_property
    def analyses(self) -> dict[str, AnalysisOutputs]:
        """{analysis: its outputs} of the finished analyses that are not stale."""
        digests = self._digests
        return {name: made for name, made in self._every_analysis.items() if made.is_of(digests)}

    @cached_property
    def _every_analysis(self) -> dict[str, AnalysisOutputs]:
        return read_analyses(self.paths)

    @cached_property
    def table_files(self) -> dict[str, tuple[Path, str]]:
        """{name of a table: its file and its recorded SHA-256}.

        If two tables have the same name, the later step's table has it; an analysis's table is then called
        `<analysis>/<name>`.
        """
        found = dict(self._tables_of_steps)
        for analysis, made in self.analyses.items():
            for name, file in _tables_in(made.folder, made.record.outputs).items():
                found[f"{analysis}/{name}" if name in found else name] = file
        return found

    @cached_property
    def files(self) -> dict[str, tuple[Path, str]]:
        """{name of a file: its path and its recorded SHA-256} of all steps and analyses.

        If two files have the same name, the later step's file has it, and a step's file precedes an analysis's.
        """
        found: dict[str, tuple[Path, str]] = {}
        made = [(each.folder, each.record.outputs) for each in self.analyses.values()]
        for folder, hashes in [*made, *self.outputs.values()]:
            found |= {name: (folder / name, digest) for name, digest in hashes.items()}
        return found

    @property
    def hashes(self) -> dict[str, str]:
        """{name of a file: its recorded SHA-256} of all steps and analyses."""
        return {name: digest for name, (_, digest) in self.files.items()}

    @cached_property
    def _tables_of_steps(self) -> dict[str, tuple[Path, str]]:
        tables = [_tables_in(folder, hashes) for folder, hashes in self.outputs.values()]
        return {name: file for own in tables for name, file in own.items()}

    @property
    def _digests(self) -> dict[str, str]:
        """{possible input of an analysis: its digest}."""
        of_analyses = [_tables_in(made.folder, made.record.outputs) for made in self._every_analysis.values()]
        tables = {name: digest for own in (*of_analyses, self._tables_of_steps) for name, (_, digest) in own.items()}
        files = [hashes for _, hashes in self.outputs.values()]
        return {
            **tables,
            **{name: d for own in files for name, d in own.items()},
            STEPD: digest_of(self.meta.outputs),
        }

    @property
    def tables(self) -> list[str]:
        """The names of its tables."""
        return sorted(self.table_files)

    def table(self, name: str) -> pd.DataFrame:
        """Read a table of a step or an analysis; numbers are exactly as they were written.

        Raises:
            ArtifactError: there is no table of this name, or its file is missing or was changed.
        """
        if name not in self.table_files:
            told = "".join(f" {line}" for line in self.stale)
            raise ArtifactError(f"{self.paths.root} has no table {name!r}; it has {shorten(self.tables, 40)}.{told}")
        path, digest = self.table_files[name]
        verify_outputs(path.parent, {path.name: digest}, "The run")
        return read_table(path) if path.suffix == ".csv" else pd.DataFrame(read_jsonl(path))

    def record(self, name: str) -> Any:
        """Read a JSON file, such as `top_heads`, `ranking_stability` or `eval_summary`.

        Raises:
            ArtifactError: there is no file of this name, or it is missing or was changed.
        """
        if f"{name}.json" not in self.files:
            told = "".join(f" {line}" for line in self.stale)
            raise ArtifactError(
                f"{self.paths.root} has no {name}.json: the step or analysis that writes it has not run.{told}"
            )
        path, digest = self.files[f"{name}.json"]
        verify_outputs(path.parent, {path.name: digest}, "The run")
        return read_json(path)

    @cached_property
    def summary(self) -> EvalSummary:
        """The summary of Step6, `eval_summary.json`.

        Raises:
            ArtifactError: Step6 has not run, or the file is missing, damaged or was changed.
        """
        values = self.record("eval_summary")
        with reading(self.files["eval_summary.json"][0]):
            return EvalSummary.model_validate(values)

    @cached_property
    def trials(self) -> Trials:
        """Its trials.

        Raises:
            ArtifactError: their file is missing or was changed.
        """
        verify_outputs(self.paths.artifacts, {SNAPSHOT: self.meta.outputs[SNAPSHOT]}, "StepD")
        return Trials(read_snapshot(self.paths.snapshot))

    @property
    def origin(self) -> Origin:
        """The model and the prompts of all its measurements."""
        return Origin.named(self.config.model.name, self.meta.model, self.trials.snapshot)

    @cached_property
    def effects(self) -> Effects:
        """Its effects and means.

        Raises:
            ArtifactError: a file is missing or was changed.
        """
        return StepdResults.read(self.paths, self.meta).effects

    @cached_property
    def vectors(self) -> dict[str, Vector]:
        """Its vectors by name: `antonym` has the relation's own heads, `antonym@aie` those of the AIE; or `global`.

        Raises:
            ArtifactError: StepE has not run, or a file is missing or was changed.
        """
        if "StepE" not in self.steps:
            raise ArtifactError(f"There are no vectors in {self.paths.stepe_to_read}: StepE has not run.")
        made = self.step("StepE")
        with reading(made.folder):
            return stored_vectors(made.folder, made.hashes, self.origin)

    @cached_property
    def result(self) -> Result:
        """The results of Step6.

        Raises:
            ArtifactError: Step6 has not run or has run its grid only, or a file is missing or was changed.
        """
        made = self.step("Step6")
        folder, hashes, config = made.folder, made.hashes, made.record.config
        if HELD_OUT_TRIALS not in hashes:
            raise ArtifactError(f"{folder} has a grid and no results on test trials.")
        of_analyses = [made.table_names for made in self.analyses.values() if made.record.after == "Step6"]
        verify_outputs(folder, {name: hashes[name] for name in (TRIALS, HELD_OUT_TRIALS)}, "Step6")
        with reading(folder):
            warnings = tuple(self.summary.warnings)
            names = [Path(name).stem for name in hashes if name.endswith(".csv")]
            tables = {name: self.table(name) for name in (*names, *chain.from_iterable(of_analyses))}
            trials = pd.DataFrame(read_jsonl(folder / HELD_OUT_TRIALS))
            rows = read_trial_rows(folder)
            return Result(rows, trials, tables, warnings, stats=config.stats, seed=config.seed, origin=self.origin)

    def __repr__(self) -> str:
        told = f"{self.paths.root}: {self.config.model.name}, {shorten(list(self.trials))}"
        return visible(f"{type(self).__name__}({told})")

    def _repr_html_(self) -> str:
        return paragraph(repr(self)) + paragraph(f"Tables: {', '.join(self.tables)}.")


def _tables_in(folder: Path, hashes: Mapping[str, str]) -> dict[str, tuple[Path, str]]:
    files = {folder / name: digest for name, digest in hashes.items()}
    return {path.stem: (path, digest) for path, digest in files.items() if path.suffix in (".csv", ".jsonl")}


def open_run(path: str | PathLike[str], tag: str | None = None) -> Run:
    """Open a run's folder, `results_fv/relation/<run_id>`.

    Args:
        path: the folder.
        tag: the tag that StepE and Step6 ran under, if any.

    A step or analysis is stale if its input files have changed since. It is left out, and `run.stale` names it.

    Raises:
        ArtifactError: StepD has not finished, a record is damaged, or the folder holds a link.

    Example:
        >>> run = fv.open_run("results_fv/relation/demo")
        >>> len(run.vectors["antonym"].heads)
        3
    """
    run = opened(RunPaths(Path(path), tag))
    for line in run.stale:
        log.warning(line)
    return run


def has_finished_stepd(paths: RunPaths) -> bool:
    """True if StepD has finished.

    Raises:
        ArtifactError: StepD's record is damaged.
    """
    return paths.stepd_meta.exists() and read_record(paths.stepd_meta, StepDRecord).is_finished


def opened_step6(folder: Path) -> Run:
    """Open the run of a Step6 folder, with its tag and its place in a sweep.

    Raises:
        ArtifactError: there is no Step6 in the folder, or as in `opened`.
    """
    refuse_links(run_folder(folder))
    return opened(paths_of_step6(folder, read_record(folder / META, Step6Record).config.tag))


def opened(paths: RunPaths) -> Run:
    """Open a run whose StepD has finished, after the checks that make it safe to read. All readers of runs call this.

    Raises:
        ArtifactError: StepD has not finished, a record is damaged, or the folder holds a link.
    """
    refuse_links(paths.root)
    if not paths.stepd_meta.exists():
        there = paths.stepd_meta.relative_to(paths.root)
        raise ArtifactError(f"{paths.root} is no run's folder: there is no {there} in it.")
    run = Run(paths)
    if not run.steps["StepD"].record.is_finished:
        raise ArtifactError(f"The run in {paths.root} has not finished its StepD.")
    return run
