"""Worker of a cluster: it runs steps until units are missing, or computes units."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from fv.analyses import analyses_of
from fv.analyses.running.runner import run_analysis
from fv.cluster.base.records import here
from fv.config import Config
from fv.errors import ClusterError
from fv.heads.measurement import KINDS
from fv.progress import show_bars
from fv.runs.completeness import finished_stepd
from fv.runs.live_run import LiveRun
from fv.runs.locks import has_run
from fv.runs.logs import keep_log
from fv.runs.machine import start_job
from fv.runs.paths import RunPaths
from fv.steps.flows import replayed
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe
from fv.work.driver import Missing, Replay, Unfinished, UnitsMissing, UnitToCompute, UntilMissing, found_or_computed
from fv.work.store import unit_names

STEPS: Mapping[str, Callable[..., Any]] = {"stepd": run_stepd, "stepe": run_stepe, "step6": run_step6}


class Worker:
    """Works on one run. A request names one of the methods below, with its arguments."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.paths = RunPaths.of(config)
        self.models = ModelHolder()
        self._replay: tuple[Any, Replay] | None = None
        show_bars(False)
        keep_log(self.paths.logs / "workers" / f"{here()}-{os.getpid()}.log")

    @with_remedies()
    def __call__(self, ask: Mapping[str, Any]) -> Any:
        start_job(self.config.seed, self.config.compute)
        arguments = dict(ask)
        with has_run(self.paths.root):  # the command that started this worker holds the lock
            return getattr(self, arguments.pop("do"))(**arguments)

    def advance(self, steps: Mapping[str, bool], made_with: str) -> Unfinished | None:
        """Run steps until units are missing, or to their end.

        Args:
            steps: {step, or name of an analysis: True to make it again even if it is complete}.
            made_with: a digest that distinguishes requests with other settings.

        Returns:
            the step that cannot continue, and its missing units; None if all steps have finished.
        """
        del made_with
        for step, overwrite in steps.items():
            config = replace(self.config, overwrite=overwrite)
            if overwrite:
                self._forget(step)
            try:
                if step in STEPS:
                    STEPS[step](config, self.models, driver=UntilMissing())
                else:
                    run = LiveRun.of(config, self.models.of, UntilMissing(), finished_stepd(config))
                    run_analysis(step, analyses_of(config.analysis)[step], run)
            except UnitsMissing as error:
                return _as_json(step, error.missing)
        return None

    def compute(self, title: str, about: Any, number: int, units: Sequence[tuple[int, int, str]]) -> None:
        """Compute units of a stage into the run's folder.

        Args:
            title: the step or analysis of the flow.
            about: the files that an unfinished Step6 has written, for an analysis of it; else None.
            number: the number of the stage in the flow, from 0.
            units: the units, each as (number of its job, its place in the job, its key).

        Raises:
            ClusterError: this worker would compute other units, because it sees another run.
        """
        replay = self._replayed(title, about, number)
        stage = replay.go_on_to(number)
        for job, own in groupby(units, lambda unit: unit[0]):
            places = []
            for _, place, key in own:
                unit = stage.jobs[job].units[place]
                if replay.store.key(unit) != key:
                    raise ClusterError(f"{here()} sees another run in {self.paths.root}, or other weights.")
                places.append(place)
            found_or_computed(stage.jobs[job], replay.store, places=places)

    def _forget(self, step: str) -> None:
        """Delete the units of a step that is made again; StepD clears its run itself."""
        for path, name in unit_names(self.paths.units):
            if name.kind not in KINDS if step == "step6" else name.kind == step:
                path.unlink(missing_ok=True)

    def _replayed(self, title: str, about: Any, number: int) -> Replay:
        """A flow that has not passed a stage; the flow of the last request is reused, with its results."""
        key = (title, about)
        if self._replay is None or self._replay[0] != key or self._replay[1].number > number:
            self._replay = key, replayed(title, about, self.config, self.models)
        return self._replay[1]


def _as_json(step: str, missing: Missing) -> Unfinished:
    units: list[UnitToCompute] = [
        {
            "job": own.job,
            "place": own.place,
            "key": own.key,
            "unit": list(own.unit.name),
            "at_once": own.at_once,
            "cost": own.unit.cost,
        }
        for own in missing.units
    ]
    return {
        "step": step,
        "title": missing.title,
        "about": missing.about,
        "stage": missing.stage,
        "number": missing.number,
        "units": units,
    }
