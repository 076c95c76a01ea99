"""A stage that is told in a flow, and nowhere else, is resumed, computed by workers, priced and shown."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clusters import Shuffled, seen_by
from tiny_runs import TinyRun

from fv.config import Config
from fv.data.prompts import prompt_of
from fv.heads.measurement import Measured, Measurement
from fv.pricing.stepd import stepd_stages
from fv.progress import Advance, show_bars
from fv.runs.paths import RunPaths
from fv.steps import distributed
from fv.steps.plan import model_of, workload_of
from fv.steps.status import run_status
from fv.steps.stepd import run_stepd
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName

TIMES: list[str] = []
"""The relations whose stage was computed, as often as it was."""
AT = {"stop": -1}
"""After how many of them the process is killed."""


def with_stage(self: Measurement, q_id: str) -> Flow[Measured]:
    """The measurement of a relation, with a stage that runs its prompts once more."""
    measured = yield from MEASURED(self, q_id)
    prompts = [prompt_of(self.lm, self.snapshot, trial, "corrupted") for trial in self.snapshot.of(q_id, "fit")]

    def compute(advance: Advance) -> Arrays:
        if len(TIMES) == AT["stop"]:
            raise KeyboardInterrupt
        TIMES.append(q_id)
        advance(len(prompts))
        return {"logprob": self.engine.last_token(prompts).scores.logprob.numpy()}

    ((arrays,),) = yield Stage("more", [Job.of(Unit(UnitName("more", q_id), lambda: "it", len(prompts)), compute)])
    assert np.isfinite(arrays["logprob"]).all()
    return measured


MEASURED = Measurement.relation


@pytest.fixture
def config(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[Config]:
    monkeypatch.setattr(Measurement, "relation", with_stage)
    TIMES.clear()
    AT["stop"] = -1
    yield tiny_run(analysis=[])
    show_bars(True)


def test_it_is_resumed_and_shown_by_status(config: Config) -> None:
    AT["stop"] = 2
    with pytest.raises(KeyboardInterrupt):
        run_stepd(config)
    shown = {units.kind: (units.units, list(units.lacking)) for units in run_status(RunPaths.of(config)).units}
    assert shown["more"] == (2, ["verb_past"])
    AT["stop"] = -1
    run_stepd(config)
    assert TIMES == ["antonym", "country_capital", "verb_past"]
    assert {units.kind: units.units for units in run_status(RunPaths.of(config)).units}["more"] == 3


def test_workers_compute_it(config: Config) -> None:
    spread = replace(config, cluster=Shuffled())
    distributed.run_stepd(spread)
    assert "StepD, more: 3" in seen_by(spread) and set(TIMES) == {"antonym", "country_capital", "verb_past"}
    assert {stage.stage: stage.done for stage in run_status(RunPaths.of(spread)).stages}["more"] == 3
    assert RunPaths.of(spread).stepd_meta.exists()


def test_it_is_priced(config: Config, tmp_path: Path) -> None:
    load = workload_of(config, model_of(config.plan, config.model, config.compute).lm)
    (more,) = [stage for stage in stepd_stages(load) if stage.name == "more"]
    assert (more.step, more.n_trials, len(more.units)) == ("StepD", 9, 3)
    assert more.work.n_prompts == 9
