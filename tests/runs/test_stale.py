"""A run is one: what was made of other files than it has now is stale in every reader, and has one writer at a time."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import TinyRun

from fv.config import Config
from fv.errors import ArtifactError
from fv.report.page import write_page
from fv.report.terminal import report
from fv.runs.locks import has_run, locked, run_lock
from fv.runs.paths import RunPaths
from fv.runs.run import open_run
from fv.runs.step_outputs import read_steps
from fv.steps import pipeline
from fv.steps.clean import run_clean
from fv.steps.model_holder import ModelHolder
from fv.steps.pipeline import run_pipeline
from fv.steps.seeds import run_seeds
from fv.steps.status import run_status
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe


@pytest.fixture(scope="module")
def models() -> ModelHolder:
    return ModelHolder()


def refused_as_stale(root: Path, config: Config) -> str:
    """Every reader leaves Step6 out and says so; gives what the page says."""
    run = open_run(root)
    assert "contrasts" not in run.tables and "transfer" not in run.tables
    assert any("Step6" in line and "is stale" in line for line in run.stale)
    for read in (lambda: run.result, lambda: run.table("contrasts"), lambda: run.record("eval_summary")):
        with pytest.raises(ArtifactError, match=r"Step6 in .* is stale"):
            read()
    assert {step.step: step.status for step in run_status(RunPaths.of(config)).steps}["Step6"] == "stale"
    page = write_page(run).read_text(encoding="utf-8")
    assert "is stale" in page and "Added at layer" not in page
    return page


def test_results_from_before_stepd_grew_are_stale_in_every_reader(
    copied_run: Path,
    run_of_copy: TinyRun,
    models: ModelHolder,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grown = run_of_copy({"data.n_trials_per_q": 5})
    assert not open_run(copied_run).stale
    old = write_page(open_run(copied_run))
    run_stepd(grown, models)
    assert not old.exists() and not (old.parent / "figures").exists()
    refused_as_stale(copied_run, grown)
    capsys.readouterr()
    report(grown)
    told = " ".join(capsys.readouterr().out.split())
    assert "Accuracy of prompts" in told and "Zero-shot answers" not in told and "Rankings of heads" not in told
    assert "Mind: StepE in" in told and "Mind: Step6 in" in told and told.count("is stale") >= 2
    with pytest.raises(ArtifactError, match=r"StepE in .* is stale"):
        _ = open_run(copied_run).vectors
    run_stepe(grown, models)
    assert list(open_run(copied_run).vectors)
    run_step6(grown, models)
    assert not open_run(copied_run).stale and len(open_run(copied_run).result.table)


@pytest.mark.slow
def test_files_of_another_run_that_were_copied_in_are_stale(
    finished_run: Path,
    copied_run: Path,
    run_of_copy: TinyRun,
    models: ModelHolder,
    tmp_path: Path,
) -> None:
    other = run_of_copy(seed=8, results_dir=tmp_path / "other")
    run_pipeline(other, models)
    root = tmp_path / "other" / "relation" / "r"
    for name in ("step6", "analyses"):
        shutil.rmtree(root / "artifacts" / name)
        shutil.copytree(finished_run / "artifacts" / name, root / "artifacts" / name)
    refused_as_stale(root, other)
    with pytest.raises(ArtifactError, match="is stale"):
        run_seeds(tmp_path / "other", ["r"], None)
    for path in (finished_run / "artifacts").glob("fv_*"):
        shutil.copy(path, root / "artifacts" / path.name)
    with pytest.raises(ArtifactError, match=r"StepE in .* is stale"):
        _ = open_run(root).vectors
    assert read_steps(RunPaths(root))["StepE"].changed


@pytest.mark.slow
def test_a_page_goes_with_the_results_that_it_shows(
    copied_run: Path, run_of_copy: TinyRun, models: ModelHolder
) -> None:
    pages = [copied_run / "report" / name / "index.html" for name in ("", "k2")]
    for step, more, left in (
        (run_step6, {"injection.layer": [0, 1, 2], "tag": "k2"}, [pages[0]]),
        (run_step6, {"injection.layer": [0, 1, 2]}, [pages[1]]),
        (run_stepd, {"seed": 8, "overwrite": True}, []),
    ):
        for page in pages:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text("old", encoding="utf-8")
        step(run_of_copy(more), models)
        assert [page for page in pages if page.exists()] == left


# Locks


class Started(threading.Thread):
    """A second command, which is found to wait."""

    def __init__(self, what: Callable[[], object]) -> None:
        super().__init__(target=what, daemon=True)
        self.start()

    @property
    def waits(self) -> bool:
        self.join(0.3)
        return self.is_alive()

    def ends(self) -> None:
        self.join(60)
        assert not self.is_alive()


def lock(root: Path, shared: bool = False) -> Callable[[], None]:
    def take() -> None:
        with run_lock(root, shared):
            pass

    return take


def test_who_shares_a_run_keeps_out_whoever_wants_it_alone_and_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with run_lock(tmp_path, shared=True):
        Started(lock(tmp_path, shared=True)).ends()
        alone = Started(lock(tmp_path))
        assert alone.waits
    alone.ends()
    with run_lock(tmp_path):
        shared = Started(lock(tmp_path, shared=True))
        assert shared.waits
        with run_lock(tmp_path), run_lock(tmp_path, shared=True):  # a step of the pipeline that has it
            pass
        assert shared.waits
    shared.ends()


def test_a_worker_goes_on_in_the_run_of_the_command_that_started_it(tmp_path: Path) -> None:
    def work() -> None:
        with has_run(tmp_path):
            lock(tmp_path)()

    with run_lock(tmp_path):
        Started(work).ends()
        assert Started(lock(tmp_path)).waits


def test_a_lock_on_what_is_never_made_leaves_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "relation" / "typo"
    with locked(folder):
        waiting = Started(lambda: locked(folder).__enter__())
        assert waiting.waits
    waiting.ends()
    with pytest.raises(RuntimeError, match="refused"), locked(tmp_path / "relation" / "other"):
        raise RuntimeError("refused")
    assert not (tmp_path / "relation" / "other").exists()


def test_nobody_comes_between_the_steps_of_a_pipeline(
    copied_run: Path,
    run_of_copy: TinyRun,
    models: ModelHolder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, started = run_of_copy(), []

    def watched(*given: Any) -> Path:
        started.append(Started(lambda: run_clean(config)))
        assert started[0].waits
        return run_stepe(*given)

    monkeypatch.setattr(pipeline, "run_stepe", watched)
    run_pipeline(config, models)
    started[0].ends()
    assert not (copied_run / "artifacts" / "units").exists()


def test_clean_and_overwrite_wait_for_a_step6_at_work(
    copied_run: Path, run_of_copy: TinyRun, models: ModelHolder
) -> None:
    again = run_of_copy(seed=8, overwrite=True)
    with run_lock(copied_run, shared=True):
        waiting = [Started(lambda: run_clean(again)), Started(lambda: run_stepd(again, models))]
        assert all(each.waits for each in waiting)
        assert (copied_run / "artifacts" / "units").exists()
    for each in waiting:
        each.ends()
    # The Step6 that comes next is of a run that is another now.
    with pytest.raises(ArtifactError, match="seed: there 8, here 7"):
        run_step6(run_of_copy(), models)
