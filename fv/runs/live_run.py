"""Live runs: runs with the settings, the model and the driver that compute more of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from fv.config import Config, StatsConfig
from fv.data.snapshot import Snapshot
from fv.evaluation.cells import grid
from fv.evaluation.evaluation import Evaluation
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.runs.engine import engine_of, with_rows_of
from fv.runs.injected_vectors import stored_vectors_of, vectors_flow, vectors_of
from fv.runs.paths import RunPaths
from fv.runs.records import Hashes, StepDRecord, read_record
from fv.runs.refusals import refuse_other_model
from fv.runs.results import StepdResults, ranking_of
from fv.runs.run import Run
from fv.runs.units import unit_store
from fv.vectors.maker import FitTrials
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL, Driver, Serial
from fv.work.flow import Flow
from fv.work.store import UnitStore


@dataclass(frozen=True, eq=False, repr=False)
class LiveRun(Run):
    """A run whose StepD has finished, with the settings, the model and the driver that compute more of it.

    It has the tables, trials, effects and vectors of `Run`.

    Attributes:
        settings: the settings that continue the run; `max_rows` is the run's.
        load: loads the model.
        driver: computes units, or lets workers compute them.
        unfinished: {file: SHA-256} of the files that an unfinished Step6 has written; None if all steps are finished.
        found: StepD's results, if they are read already.
    """

    settings: Config
    load: Callable[[], LanguageModel]
    driver: Driver = SERIAL
    unfinished: Hashes | None = None
    found: StepdResults | None = None
    _read: dict[str, pd.DataFrame] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        config: Config,
        load: Callable[[Config], LanguageModel],
        driver: Driver = SERIAL,
        record: StepDRecord | None = None,
    ) -> "LiveRun":
        """Open the run of a configuration; its StepD must have finished.

        Args:
            config: the configuration.
            load: loads the model of a configuration.
            driver: computes units, or lets workers compute them.
            record: StepD's record, as `fv.runs.completeness.finished_stepd` checks and reads it; None to read it
                without that check, after a step that has made it.
        """
        paths = RunPaths.of(config)
        compute = with_rows_of(config.compute, record or read_record(paths.stepd_meta, StepDRecord))
        settings = replace(config, compute=compute)
        return cls(paths, settings, partial(load, settings), driver)

    def read_anew(self, unfinished: Hashes | None = None) -> "LiveRun":
        """Open the run again after a step has written into it; StepD's results are not read again.

        Args:
            unfinished: {file: SHA-256} of the files that an unfinished Step6 has written.
        """
        return replace(self, unfinished=unfinished, found=self.stepd, _read={})

    @cached_property
    def lm(self) -> LanguageModel:
        """The model, loaded when it is first used.

        Raises:
            ArtifactError: its weights or tokenizer are not those of the run.
        """
        lm = self.load()
        refuse_other_model(self.meta, lm, self.paths)
        return lm

    def units(self) -> UnitStore:
        """The store of the run's finished units; it records the machines of the units that are read from it."""
        return replace(self._units, machines=[])

    @cached_property
    def _units(self) -> UnitStore:
        own = self.settings
        return unit_store(self.paths, self.meta, own.model, own.compute, own.forgets_units)

    @cached_property
    def engine(self) -> Engine:
        """The run's engine, on `lm`; units record when it had to make passes smaller."""
        return engine_of(self.settings.compute, self.lm, self._units)

    @property
    def seed(self) -> int:
        """The seed of every draw."""
        return self.settings.seed

    @property
    def stats(self) -> StatsConfig:
        """The level, resamples and method of intervals."""
        return self.settings.stats

    @cached_property
    def stepd(self) -> StepdResults:
        """The trials, effects and means, verified."""
        return self.found or StepdResults.read(self.paths, self.meta)

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot of trials."""
        return self.stepd.snapshot

    @cached_property
    def effects(self) -> Effects:
        """The effects and means of all relations."""
        return self.stepd.effects

    @cached_property
    def ranking(self) -> Ranking:
        """The ranking of heads that StepE made."""
        return ranking_of(self.settings.score, self.settings.injection, self.paths)

    @cached_property
    def injected(self) -> list[Vector]:
        """The vectors that Step6 injected; the model is loaded only if they are not in files of the run."""
        injection = self.settings.injection
        if injection.k is None and all(choice.is_ranked for choice in injection.choices):
            return stored_vectors_of(injection, self.vectors, self.trials.snapshot)
        return Serial(shown=False).run(self.vectors_flow(), "Step6", self.units())

    def vectors_flow(self) -> Flow[list[Vector]]:
        """Make the vectors that Step6 injects; files are read at once.

        Raises:
            FvError: a file is missing or was changed, or a vector is not possible.
        """
        injection = self.settings.injection
        known = vectors_of(injection, self.ranking, self.paths, self.lm, self.stepd)
        return vectors_flow(injection, known, self.snapshot, self.fit_trials)

    def fit_trials(self, q_id: str) -> FitTrials:
        """Fit trials of a relation, for makers of vectors that are injected at the cells of Step6's grid."""
        cells = grid(self.settings.injection, self.lm.n_layers)
        ranking, seed = self.ranking, self.settings.seed
        return FitTrials(self.lm, self.engine, self.snapshot, q_id, self.effects, ranking, cells, seed=seed)

    @cached_property
    def cells(self) -> list[Cell]:
        """The layers and alphas of Step6's grid."""
        every = self.table("eval_trials")[["layer", "alpha"]].drop_duplicates().itertuples(index=False)
        return sorted(Cell(int(layer), float(alpha)) for layer, alpha in every)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation of vectors on the run's trials, with StepE's ranking of heads."""
        return self.evaluation_by(self.ranking)

    def evaluation_by(self, ranking: Ranking) -> Evaluation:
        """Make the evaluation of vectors on the run's trials, with the given ranking of heads."""
        settings = self.settings
        return Evaluation(
            lm=self.lm,
            engine=self.engine,
            snapshot=self.snapshot,
            settings=settings.evaluation,
            ranking=ranking,
            effects=self.effects,
            alpha_unit=settings.injection.alpha_unit,
            stats=settings.stats,
            seed=settings.seed,
        )

    @cached_property
    def outputs(self) -> dict[str, tuple[Path, Hashes]]:
        """{step: its folder, and the SHA-256 of each of its files} of the steps that have run."""
        finished = super().outputs
        if self.unfinished is None:
            return finished
        return {**finished, "Step6": (self.paths.step6, self.unfinished)}

    def table(self, name: str) -> pd.DataFrame:
        """Read a table as `Run.table` does, but only once."""
        if name not in self._read:
            self._read[name] = super().table(name)
        return self._read[name].copy()
