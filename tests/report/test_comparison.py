"""Several runs on one page: each number is its run's, what is missing is said, what differs is shown."""

import shutil
from pathlib import Path

import pytest
from commands import module
from hostile_texts import NAMES
from page_reader import Page
from tiny_runs import TinyRun, configured

from fv.config import Config
from fv.errors import ArtifactError
from fv.report.comparison_page import comparison_page
from fv.runs.run import Run, open_run
from fv.steps.pipeline import run_pipeline


@pytest.fixture
def several(tiny_run: TinyRun, hostile_run: Run, tmp_path: Path) -> Config:
    """Two seeds of one setting, a run with controls, the same without Step6, and one that has only begun."""
    for seed in (1, 2):
        own = {
            "injection.layer": 1,
            "injection.fv": "all_qids",
            "eval_scope.mode": "all_qids",
            "stats.n_resamples": 100,
        }
        run_pipeline(tiny_run(own, run_id=f"seed{seed}", seed=seed))
    runs = tmp_path / "relation"
    for name in ("full", "no_step6"):
        shutil.copytree(hostile_run.paths.root / "artifacts", runs / name / "artifacts")
    shutil.rmtree(runs / "no_step6" / "artifacts" / "step6")
    (runs / "begun").mkdir()
    names = ["seed1", "seed2", "full", "no_step6", "begun"]
    return configured({"results_dir": tmp_path, "runs": names, "out": tmp_path / "side", "report.formats": ["svg"]})


@pytest.mark.slow
def test_each_number_is_its_runs_and_what_is_missing_is_said(several: Config, tmp_path: Path) -> None:
    path = comparison_page(several)
    assert path == tmp_path / "side" / "index.html"
    page = Page(path.read_text(encoding="utf-8"))
    shown = {
        row[0][0]: dict(zip(("seed1", "seed2", "full", "no_step6"), row[1:], strict=True))
        for row in page.cells["effects"]
    }
    assert {*NAMES, "antonym", "verb_past"} <= {*shown}
    for run_id in ("seed1", "seed2", "full"):
        run = open_run(tmp_path / "relation" / run_id)
        of_run = {row[0][0] for row in page.cells["results"] if row[1][0] == run_id}
        assert of_run == {*run.trials}
        for q_id in of_run:
            chosen = [row for row in run.record("eval_summary")["chosen"] if row["eval_qid"] == q_id]
            exact = float(str(shown[q_id][run_id][1]))
            assert exact in {row["mean_delta_logprob"] for row in chosen}
    assert shown["antonym"]["seed1"] != shown["antonym"]["seed2"]
    assert all(row["no_step6"] == ("–", None) for row in shown.values())
    said = " ".join(page.texts["li"])
    assert "begun: StepD has not finished" in said and "no_step6: Step6 has not run" in said
    assert "seed1: Step6 ran only its grid" in said and "different pairs" in said


@pytest.mark.slow
def test_contrasts_figures_and_differing_settings_are_shown(several: Config, tmp_path: Path) -> None:
    page = Page(comparison_page(several).read_text(encoding="utf-8"))
    table = open_run(tmp_path / "relation" / "full").table("contrasts")
    contrasts = {row[2][0] for row in page.cells["contrasts"]}
    assert {"corrupted_prompts", "layer_mean_added"} <= contrasts
    assert {float(str(row[3][1])) for row in page.cells["contrasts"]} <= {*table["mean"]}
    figures = {str(own.get("id")) for tag, own in page.elements if tag == "figure"}
    assert figures == {f"figure-relation_{n:02}" for n in range(1, len(page.cells["effects"]) + 1)}
    assert {path.stem for path in (tmp_path / "side" / "figures").iterdir()} == {
        f.removeprefix("figure-") for f in figures
    }
    differing = {row[0][0]: [cell for cell, _ in row[1:]] for row in page.cells["settings"]}
    assert differing["seed"][:2] == ["1", "2"] and "data.template.query" not in differing
    assert not {tag for tag, _ in page.elements} & {"img", "i", "b", "iframe"}


@pytest.mark.slow
def test_the_same_runs_are_the_same_bytes(several: Config) -> None:
    first = comparison_page(several).read_bytes()
    assert comparison_page(several).read_bytes() == first


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_into_the_results_unless_told(hostile_run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        shutil.copytree(hostile_run.paths.root / "artifacts", tmp_path / "relation" / name / "artifacts")
    done = module("report", "runs=[a,b]", f"results_dir={tmp_path}")
    path = Path(done.stdout.splitlines()[-1].removeprefix("Page: "))
    assert path.parent.parent == tmp_path / "compared" and path.parent.name.startswith("a-") and path.exists()
    assert "Effect of each relation's own vector" in done.stdout


def test_a_run_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there is no run 'nope'"):
        comparison_page(configured({"runs": ["nope"], "results_dir": tmp_path}))
    (tmp_path / "relation" / "begun").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="none of these runs has finished StepD"):
        comparison_page(configured({"runs": ["begun"], "results_dir": tmp_path}))
