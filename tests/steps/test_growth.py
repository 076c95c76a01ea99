"""Runs grow: more relations and more fit trials join a finished run, and later steps know that they are stale."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_QIDS
from tiny_runs import TinyRun

from fv.config import Config
from fv.errors import ArtifactError
from fv.interventions.engine import Cell
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.gather import run_gather
from fv.steps.model_holder import ModelHolder
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe

TABLES = ("cie_scores.csv", "aie_scores.csv", "cie_stats.csv", "aie_stats.csv", "fv_qid.pt")
ANALYSES = ("cost/cost.json", "ranking_stability/head_stability.csv", "transfer/transfer.csv")
STEP6 = ("eval_summary.json", "eval_trials.jsonl", "held_out.csv", "contrasts.csv")


@pytest.fixture
def tiny_run(tiny_run: TinyRun) -> TinyRun:
    return tiny_run.but(
        {
            "evaluation.held_out": True,
            "stats.n_resamples": 100,
            "analysis.cost.n_texts": 0,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.refits.draws": 2,
            "evaluation.conditions.random_heads.draws": 1,
            "data.n_eval_trials_per_q": 4,
            "injection.fv": ["all_qids", "aie_qid"],
            "eval_scope.mode": "in_domain",
        }
    )


def bytes_of(paths: RunPaths) -> dict[str, bytes]:
    files = {name: paths.artifacts / name for name in TABLES} | {name: paths.step6 / name for name in STEP6}
    files |= {name: paths.analyses / name for name in ANALYSES}
    return {name: path.read_bytes() for name, path in files.items()}


@pytest.mark.slow
def test_a_run_that_grew_by_a_relation_is_the_run_of_all_at_once(
    tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    few = tiny_run({"data.qids": TINY_QIDS[:2]})
    run_pipeline(few)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run_pipeline(tiny_run())
    said = [record.getMessage() for record in caplog.records]
    assert [line for line in said if line.startswith("StepD, effects") and line.endswith("done")] == [
        f"StepD, effects: {TINY_QIDS[2]} done"
    ]
    assert {f"StepD, effects: {q_id} found finished" for q_id in TINY_QIDS[:2]} <= set(said)
    assert any("StepE" in line and "is stale" in line for line in said)
    assert any("Step6" in line and "is stale" in line for line in said)
    at_once = tiny_run(run_id="at_once")
    run_pipeline(at_once)
    assert bytes_of(RunPaths.of(few)) == bytes_of(RunPaths.of(at_once))


@pytest.mark.slow
def test_a_run_that_grew_by_fit_trials_is_the_run_of_all_at_once(tiny_run: TinyRun) -> None:
    few = tiny_run()
    run_pipeline(few)
    run_pipeline(tiny_run({"data.n_trials_per_q": 5}))
    at_once = tiny_run({"data.n_trials_per_q": 5}, run_id="at_once")
    run_pipeline(at_once)
    assert bytes_of(RunPaths.of(few)) == bytes_of(RunPaths.of(at_once))
    with pytest.raises(ArtifactError, match=r"data\.n_trials_per_q: there 5, here 3"):
        run_stepd(few)


@pytest.mark.slow
def test_a_later_step_does_not_take_the_place_of_stepd(tiny_run: TinyRun) -> None:
    few = tiny_run.but({"data.qids": TINY_QIDS[:2]})
    run_pipeline(few())
    run_stepd(tiny_run())
    # The vectors are still those of two relations: Step6 says which step makes them again.
    with pytest.raises(ArtifactError, match=r"(?s)fv_qid\.pt.*sampled_trials\.json"):
        run_step6(tiny_run())
    run_stepe(tiny_run())
    run_step6(tiny_run())


@pytest.mark.slow
def test_what_would_change_a_trial_is_refused_with_the_trial(
    tiny_run: TinyRun, small_csv: Path, tmp_path: Path
) -> None:
    csv = tmp_path / "own.csv"
    csv.write_text(small_csv.read_text(encoding="utf-8"), encoding="utf-8")
    own = tiny_run.but({"data.relation_csv_path": csv}, run_id="own")
    run_stepd(own())
    csv.write_text(csv.read_text(encoding="utf-8") + "antonym,zig,zag\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match="made from other pairs of antonym"):
        run_stepd(own())
    # Another relation in the file is no matter.
    csv.write_text(small_csv.read_text(encoding="utf-8") + "".join(f"new,a{i},b{i}\n" for i in range(20)))
    run_stepd(own())
    assert '"new"' in RunPaths.of(own()).snapshot.read_text(encoding="utf-8")


@pytest.mark.slow
def test_overwriting_a_later_step_keeps_stepd(tiny_run: TinyRun) -> None:
    config = tiny_run()
    run_pipeline(config)
    before = RunPaths.of(config).stepd_meta.read_bytes()
    run_pipeline(tiny_run({"score.k": 2}, overwrite=True))
    assert RunPaths.of(config).stepd_meta.read_bytes() == before


@pytest.mark.slow
def test_a_step6_that_grew_by_layers_and_alphas_is_the_one_of_all_at_once(tiny_run: TinyRun) -> None:
    few = tiny_run.but({"injection.layer": [1], "injection.alpha": [1.0]})
    run_pipeline(few())
    grown = tiny_run.but({"injection.layer": [0, 1], "injection.alpha": [1.0, 2.0]})
    config = grown()
    run_step6(config)
    at_once = grown(run_id="at_once")
    run_pipeline(at_once)
    assert bytes_of(RunPaths.of(config)) == bytes_of(RunPaths.of(at_once))
    # Fewer are refused, and so are others.
    for other in ({"injection.alpha": [1.0]}, {"injection.alpha": [1.0, 3.0]}):
        with pytest.raises(ArtifactError, match=r"injection\.alpha: there \[1\.0, 2\.0\], here"):
            run_step6(grown(other))


@pytest.mark.slow
def test_cells_that_are_there_are_not_computed_again(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = tiny_run.but({"evaluation.held_out": False, "injection.alpha": [1.0, 2.0]})
    run_pipeline(grid({"injection.layer": [1]}))
    asked: set[Cell] = set()
    inject = SharedPrefixEngine.inject

    def watched(self: SharedPrefixEngine, prompts: Any, vectors: Any, cells: Any, *more: Any) -> Any:
        asked.update(cells)
        return inject(self, prompts, vectors, cells, *more)

    monkeypatch.setattr(SharedPrefixEngine, "inject", watched)
    run_step6(grid({"injection.layer": [1, 2]}))
    assert asked == {Cell(2, 1.0), Cell(2, 2.0)}


def test_a_stepd_that_another_process_has_begun_is_waited_for_and_taken_as_it_is(
    tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    config, began = tiny_run(), threading.Event()
    meta = RunPaths.of(config).stepd_meta

    class LoadsSlowly(ModelHolder):
        """Goes on only once the other one waits."""

        def of(self, config: Config, fresh: bool = False) -> LanguageModel:
            began.set()
            while "waiting for it" not in caplog.text:
                time.sleep(0.01)
            return super().of(config, fresh)

    class NeverLoads(ModelHolder):
        def of(self, config: Config, fresh: bool = False) -> LanguageModel:
            raise AssertionError("a model was loaded for a step that is complete")

    with ThreadPoolExecutor(1) as other, caplog.at_level(logging.INFO, "fv"):
        first = other.submit(run_stepd, config, LoadsSlowly())
        assert began.wait(60)
        run_stepd(config, NeverLoads())
        first.result()
    assert meta.exists() and "StepD in" in caplog.text and "is complete already" in caplog.text


@pytest.mark.slow
def test_cells_of_a_sweep_from_before_the_run_grew_are_refused_and_an_older_summary_is_made_again(
    tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    few, many = tiny_run.but({"data.qids": ["antonym", "verb_past"]}), tiny_run
    swept = {"injection.layer": [0, 1]}
    run_pipeline(few(swept))
    run_step6(few(swept), as_cell=True)
    run_gather(few(swept, overwrite=True))
    run_stepd(many())
    run_stepe(many())
    with pytest.raises(ArtifactError, match=r"All finished cells are stale: .*sampled_trials.json.* changed since"):
        run_gather(many(swept))
    run_step6(many(swept), as_cell=True)
    with caplog.at_level(logging.INFO):
        run_gather(many(swept))
    said = [record.getMessage() for record in caplog.records]
    assert any("1 cells are stale, and are left out" in line for line in said)
    assert any("The summary in" in line and "is stale" in line for line in said)
    at_once = many(swept, run_id="at_once")
    run_pipeline(at_once)
    assert bytes_of(RunPaths.of(many())) == bytes_of(RunPaths.of(at_once))
