"""A live run: a run with the settings, the model and the driver that compute more of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import pandas as pd

from fv.config import Config, StatsConfig
from fv.data.snapshot import Snapshot
from fv.evaluation.evaluation import Evaluation
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.runs.engine import engine_of, with_rows_of
from fv.runs.injected import stored_vectors_of, vectors_of
from fv.runs.paths import RunPaths
from fv.runs.records import Hashes, StepDRecord, read_record
from fv.runs.refusals import refuse_other_model
from fv.runs.results import StepdResults, ranking_of
from fv.runs.run import Run
from fv.runs.units import unit_store
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL, Driver
from fv.work.store import UnitStore


@dataclass(frozen=True, eq=False, repr=False)
class LiveRun(Run):
    """A run whose StepD has finished, with all that computes more of it.

    Tables, trials, effects and vectors are those of `Run`.

    Attributes:
        settings: the settings that it is continued with, with the run's own size of passes.
        load: gives the model.
        driver: has units computed.
        unfinished: {file: SHA-256} of what a Step6 has written that is at work; None where all steps are finished.
        found: StepD's results, where they are at hand.
    """

    settings: Config
    load: Callable[[], LanguageModel]
    driver: Driver = SERIAL
    unfinished: Hashes | None = None
    found: StepdResults | None = None
    _read: dict[str, pd.DataFrame] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, load: Callable[[Config], LanguageModel], driver: Driver = SERIAL) -> "LiveRun":
        """The run of a configuration, whose StepD has finished (`fv.runs.completeness.finished_stepd`).

        Args:
            config: the configuration.
            load: gives the model of a configuration.
            driver: has units computed.
        """
        paths = RunPaths.of(config)
        compute = with_rows_of(config.compute, read_record(paths.stepd_meta, StepDRecord))
        settings = replace(config, compute=compute)
        return cls(paths, settings, partial(load, settings), driver)

    def read_anew(self, unfinished: Hashes | None = None) -> "LiveRun":
        """The run after a step has written into it; StepD's results stay at hand.

        Args:
            unfinished: {file: SHA-256} of what a Step6 has written that is at work.
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
        """The finished units of the run, in a store that names the machines of those it has given since."""
        return replace(self._units, machines=[])

    @cached_property
    def _units(self) -> UnitStore:
        return unit_store(self.paths, self.meta, self.settings)

    @cached_property
    def engine(self) -> Engine:
        """The run's engine, on `lm`; units say when it had to make passes smaller."""
        return engine_of(self.settings.compute, self.lm, self._units)

    @property
    def seed(self) -> int:
        """The seed of every draw."""
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
        """The ranking of heads that StepE made."""
        return ranking_of(self.settings.score, self.settings.injection, self.paths)

    @cached_property
    def injected(self) -> list[Vector]:
        """The vectors that Step6 injected; the model is loaded only where they are in no file of the run."""
        injection = self.settings.injection
        if injection.k is None and "file" not in injection.fvs:
            return stored_vectors_of(injection, self.vectors, self.trials.snapshot)
        return vectors_of(injection, self.ranking, self.paths, self.lm, self.stepd)

    @cached_property
    def cells(self) -> list[Cell]:
        """Layers and alphas of the grid of Step6."""
        every = self.table("eval_trials")[["layer", "alpha"]].drop_duplicates().itertuples(index=False)
        return sorted(Cell(int(layer), float(alpha)) for layer, alpha in every)

    @cached_property
    def evaluation(self) -> Evaluation:
        """The evaluation of vectors on the run's trials, with heads ranked as StepE ranked them."""
        return self.evaluation_by(self.ranking)

    def evaluation_by(self, ranking: Ranking) -> Evaluation:
        """The evaluation of vectors on the run's trials, with heads ranked by `ranking`."""
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
        """Each step that has run: its folder, and the SHA-256 of each of its files."""
        finished = super().outputs
        if self.unfinished is None:
            return finished
        return {**finished, "Step6": (self.paths.step6, self.unfinished)}

    def table(self, name: str) -> pd.DataFrame:
        """`Run.table`; a table is read once."""
        if name not in self._read:
            self._read[name] = super().table(name)
        return self._read[name].copy()
