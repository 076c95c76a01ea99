"""What the workers of a cluster do: each keeps a model, and makes the units that it is asked for."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from fv.analyses import analyses_of
from fv.analyses.running.analysed_run import AnalysedRun
from fv.analyses.running.runner import compute_unit, run_analysis
from fv.cluster.work.records import here
from fv.config import Config
from fv.data.snapshot import read_snapshot
from fv.heads.piece import Kind, Piece
from fv.heads.relation_run import Begun, RelationRuns
from fv.heads.screened_run import estimate_of
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.progress import show_bars
from fv.runs.engine import with_rows, with_rows_for, with_rows_of
from fv.runs.locks import has_run
from fv.runs.logs import keep_log
from fv.runs.metadata import finished_stepd, start_job
from fv.runs.paths import RunPaths
from fv.runs.step6_files import write_rows
from fv.steps.advice import with_settings
from fv.steps.analyses import analyses_after
from fv.steps.holder import ModelHolder
from fv.steps.injections import Injections
from fv.steps.step6 import run_step6
from fv.steps.stepd import relation_runs, run_stepd
from fv.steps.stepe import run_stepe

STEPS: Mapping[str, Callable[[Config, ModelHolder], Any]] = {
    "stepd": run_stepd,
    "stepe": run_stepe,
    "step6": run_step6,
}


class Worker:
    """Makes units of one run. What it is asked names one of the methods below, and its arguments."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paths = RunPaths.of(config)
        self.models = ModelHolder()
        self._begun: Begun | None = None
        self._read: AnalysedRun | None = None
        show_bars(False)
        keep_log(self.paths.logs / "workers" / f"{here()}-{os.getpid()}.log")

    @with_settings()
    def __call__(self, ask: Mapping[str, Any]) -> Any:
        start_job(self.config)
        arguments = dict(ask)
        with has_run(self.paths.root):  # by the command that started this worker
            return getattr(self, arguments.pop("do"))(**arguments)

    def prove(self, **_: Any) -> dict[str, Any]:
        """Load the model and prove that edits act; say what it is."""
        rows = with_rows_for(self.config, self._lm).compute.max_rows
        return {"fingerprint": self._lm.fingerprint, "selfcheck": self._lm.selfcheck, "max_rows": rows}

    def piece(self, kind: str, q_id: str, start: int, stop: int, heads: list[list[int]], max_rows: int) -> None:
        """Compute a piece of a relation's StepD, in passes of this size."""
        self.config = with_rows(self.config, max_rows)
        piece = Piece(Kind(kind), q_id, start, stop, tuple(Head(*head) for head in heads))
        first = piece.kind in (Kind.clean, Kind.zero_shot)
        self._relations.compute(piece, None if first else self._first_stage(q_id), self._estimate)

    def finish(self, steps: Mapping[str, bool], max_rows: int | None = None) -> None:
        """Run steps in one piece, from units that are there; {step: whether to make it again whatever is there}."""
        config = self.config if max_rows is None else with_rows(self.config, max_rows)
        for step, overwrite in steps.items():
            STEPS[step](replace(config, overwrite=overwrite), self.models)

    def grid(self, q_id: str, vectors: list[str], **_: Any) -> None:
        """Inject some vectors into a relation's trials at every cell."""
        self._injections.grid([q_id], vectors)

    def held_out(self, q_id: str, part: str, **_: Any) -> None:
        """Run the chosen cells of a relation on its test trials: its own conditions, or those made of others."""
        injections = self._injections
        injections.held_out_run(q_id).compute(q_id, part, injections.evaluation.units)

    def rows(self, **_: Any) -> dict[str, Any]:
        """Write the rows and tables of Step6, and say what analyses are to be made of them."""
        injections = self._injections
        found = injections.grid()
        written = write_rows(self.paths.step6, found.rows, injections.held_out(found)).hashes()
        analyses, run = analyses_after("Step6", self.config), self._analysed(self.config, written)
        parts = {
            name: list(analysis.units(run)) for name, analysis in analyses.items() if not run.lacks(analysis.reads)
        }
        return {"written": written, "units": parts}

    def units_of(self, name: str, **_: Any) -> list[Any]:
        """The pieces of an analysis of the finished run."""
        return list(analyses_of(self.config.analysis)[name].units(self._analysed(self.config, None)))

    def analyse(self, name: str) -> None:
        """Make an analysis of the finished run, from pieces that are there."""
        run_analysis(name, analyses_of(self.config.analysis)[name], self._analysed(self.config, None))

    def analysis(self, name: str, unit: Any, written: dict[str, str] | None = None, **_: Any) -> None:
        """Make one piece of an analysis."""
        # What was read of the run stays for the next piece.
        if self._read is None or self._read.unfinished != written:
            self._read = self._analysed(self.config, written)
        compute_unit(name, analyses_of(self.config.analysis)[name], self._read, unit)

    @property
    def _lm(self) -> LanguageModel:
        return self.models.of(self.config)

    @cached_property
    def _relations(self) -> RelationRuns:
        return relation_runs(self.config, self._lm, read_snapshot(self.paths.trials_at_work))

    @cached_property
    def _estimate(self) -> Any:
        return estimate_of(self._relations.engine, self.config.score)

    def _first_stage(self, q_id: str) -> Begun:
        """A relation's first stage; that of the last one is kept."""
        if self._begun is None or self._begun.q_id != q_id:
            self._begun = self._relations.begin(q_id)
        return self._begun

    @cached_property
    def _injections(self) -> Injections:
        meta = finished_stepd(self.paths, self.config)
        return Injections.of(with_rows_of(self.config, meta), self.paths, self._lm, meta)

    def _analysed(self, config: Config, written: dict[str, str] | None) -> AnalysedRun:
        settings = with_rows_of(config, finished_stepd(self.paths, config))
        return AnalysedRun(self.paths, settings, lambda: self._lm, written)
