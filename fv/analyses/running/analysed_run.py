"""A run as an analysis reads it: its results, verified, and what they were made with, loaded when asked for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from fv.config import Config, StatsConfig
from fv.data.snapshot import Snapshot
from fv.errors import ArtifactError, shorten
from fv.evaluation.evaluation import Evaluation
from fv.files import digest_of
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.runs.analysis_files import SETTINGS
from fv.runs.engine import engine_of
from fv.runs.evaluation import evaluation_of
from fv.runs.injected import stored_vectors_of, vectors_of
from fv.runs.made_with import step6_inputs
from fv.runs.metadata import refuse_other_model, stats_settings
from fv.runs.paths import SNAPSHOT
from fv.runs.records import STEPD
from fv.runs.results import StepdResults, ranking_of
from fv.runs.run import Run
from fv.runs.vector_files import vector_hashes
from fv.vectors.vector import Vector


@dataclass(frozen=True, eq=False, repr=False)
class AnalysedRun(Run):
    """A run and the settings it was made with. Tables, trials, effects and vectors are those of `Run`.

    Attributes:
        settings: the settings of the step whose results are analysed.
        load: gives the model.
        unfinished: {file: SHA-256} of what a Step6 has written that is at work; None where all steps are finished.
        found: StepD's results, where they are at hand.
    """

    settings: Config
    load: Callable[[], LanguageModel]
    unfinished: Mapping[str, str] | None = None
    found: StepdResults | None = None
    _read: dict[str, pd.DataFrame] = field(default_factory=dict)

    @cached_property
    def lm(self) -> LanguageModel:
        """The model, loaded when it is first asked for.

        Raises:
            ArtifactError: its weights or tokenizer are not those of the run.
        """
        lm = self.load()
        refuse_other_model(self.meta, lm, self.paths)
        return lm

    @cached_property
    def engine(self) -> Engine:
        """The run's engine, on `lm`."""
        return engine_of(self.settings, self.lm)

    @property
    def seed(self) -> int:
        """Of every draw."""
        return self.settings.seed

    @property
    def stats(self) -> StatsConfig:
        """Level, resamples and method of intervals."""
        return self.settings.stats

    @cached_property
    def stepd(self) -> StepdResults:
        """Trials, effects and means, verified."""
        return self.found or StepdResults.read(self.paths, self.meta)

    @property
    def snapshot(self) -> Snapshot:
        """The trials with all that is known of them."""
        return self.stepd.snapshot

    @cached_property
    def effects(self) -> Effects:
        """Effects and means of every relation."""
        return self.stepd.effects

    @cached_property
    def ranking(self) -> Ranking:
        """How heads were ranked."""
        return ranking_of(self.settings, self.paths)

    @cached_property
    def injected(self) -> list[Vector]:
        """The vectors that Step6 injected; the model is loaded only where they are in no file of the run."""
        if self.settings.injection.k is None and "file" not in self.settings.injection.fvs:
            return stored_vectors_of(self.settings, self.vectors, self.trials.snapshot)
        return vectors_of(self.settings, self.paths, self.lm, self.stepd)

    @cached_property
    def cells(self) -> list[Cell]:
        """Layers and alphas of the grid of Step6."""
        every = self.table("eval_trials")[["layer", "alpha"]].drop_duplicates().itertuples(index=False)
        return sorted(Cell(int(layer), float(alpha)) for layer, alpha in every)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation that Step6 ran."""
        return evaluation_of(self.settings, self.lm, self.engine, self.stepd)

    @cached_property
    def outputs(self) -> dict[str, tuple[Path, dict[str, str]]]:
        """Each step that has run: its folder, and the SHA-256 of each of its files."""
        finished = super().outputs
        if self.unfinished is None:
            return finished
        return {**finished, "Step6": (self.paths.step6, dict(self.unfinished))}

    def table(self, name: str) -> pd.DataFrame:
        """`Run.table`; a table is read once."""
        if name not in self._read:
            self._read[name] = super().table(name)
        return self._read[name].copy()

    def lacks(self, reads: Iterable[str]) -> list[str]:
        """Which tables of those that an analysis reads the run has not."""
        return [name for name in reads if name not in (*PARTS, *self.table_files)]

    def inputs(self, reads: Iterable[str]) -> dict[str, str]:
        """{what an analysis reads: its digest}, with the settings that every number depends on.

        Raises:
            ArtifactError: the run lacks a table, or a vector's file is missing or of another run.
        """
        if lacking := self.lacks(reads):
            raise ArtifactError(f"{self.paths.root} has no {', '.join(lacking)}; it has {shorten(self.tables, 40)}.")
        hashes = {name: self.table_files[name][1] for name in reads if name in self.table_files}
        for name in reads:
            if name in PARTS:
                hashes |= PARTS[name](self)
        return {**hashes, SETTINGS: digest_of([self.seed, stats_settings(self.settings)])}


def _effects(run: AnalysedRun) -> dict[str, str]:
    return {STEPD: digest_of(run.meta["outputs"])}


def _trials(run: AnalysedRun) -> dict[str, str]:
    return {SNAPSHOT: run.meta["outputs"][SNAPSHOT]}


def _vectors(run: AnalysedRun) -> dict[str, str]:
    return vector_hashes(run.outputs["StepE"][1])


def _injected(run: AnalysedRun) -> dict[str, str]:
    return step6_inputs(run.settings, run.paths, run.meta)


PARTS: Mapping[str, Callable[[AnalysedRun], dict[str, str]]] = {
    "trials": _trials,
    "effects": _effects,
    "vectors": _vectors,
    "injected": _injected,
}
"""What an analysis reads beside tables, and how it is told from what it was."""
