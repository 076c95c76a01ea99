"""A run that a released version wrote is opened, shown, found complete, and continued by this version.

`scripts/frozen_run.py` says how it was made.
"""

import logging
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from conftest import MakeConfig
from frozen_run import ARCHIVE, SETTINGS
from page_reader import Page

from fv.files import read_json, sha256_of
from fv.report.page import write_page
from fv.report.terminal import report
from fv.runs.paths import RunPaths
from fv.runs.run import Run, open_run
from fv.steps.pipeline import run_pipeline


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Settings of the run, unpacked into this test's own folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "relation", filter="data")
    return [*SETTINGS, "compute.selfcheck=false", f"results_dir={tmp_path}"]


@pytest.fixture
def run(settings: list[str], tmp_path: Path) -> Run:
    return open_run(tmp_path / "relation" / "frozen")


def test_every_part_of_it_is_read(run: Run) -> None:
    assert not run.stale and run.config.model.name == "smollm2"
    assert all(len(run.table(name)) for name in run.tables)
    assert {*run.vectors} >= {"antonym", "verb_past", "global"}
    assert len(run.result.cells) == 2 and len(run.result.table)
    assert [*run.effects.qids] == ["antonym", "verb_past"] and run.summary.chosen


def test_it_is_shown_with_the_numbers_of_its_tables(
    make_config: MakeConfig, settings: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    report(make_config(*settings))
    said = " ".join(capsys.readouterr().out.split())
    for told in ("Accuracy of prompts", "Rankings of heads", "Zero-shot answers", "The top heads"):
        assert told in said
    page = Page(write_page(run).read_text(encoding="utf-8"))
    shown = {row[0][0]: {float(exact) for _, exact in row if exact} for row in page.cells["results"]}
    contrasts = run.table("contrasts").query("condition == 'fv' and subset == 'all' and metric == 'logprob'")
    for q_id in ("antonym", "verb_past"):
        own = contrasts[(contrasts["fv"] == q_id) & (contrasts["eval_qid"] == q_id)].set_index("minus")["mean"]
        assert {own["corrupted_prompts"], own["layer_mean_replaced"]} <= shown[q_id]


def test_it_is_complete_under_its_own_settings(make_config: MakeConfig, settings: list[str], run: Run) -> None:
    artifacts = run.paths.artifacts
    before = {path: sha256_of(path) for path in artifacts.rglob("*") if path.is_file() and path.suffix != ".log"}
    run_pipeline(make_config(*settings))
    assert {path: sha256_of(path) for path in before} == before


@pytest.mark.slow
def test_every_step_continues_it(
    make_config: MakeConfig, settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(*settings, "data.qids=[antonym,country_capital,verb_past]")
    paths = RunPaths.of(config)
    before = pd.read_csv(paths.artifacts / "cie_scores.csv")
    with caplog.at_level(logging.INFO):
        run_pipeline(config)
    after = pd.read_csv(paths.artifacts / "cie_scores.csv")
    assert sorted(set(after["q_id"])) == ["antonym", "country_capital", "verb_past"]
    same = after[after["q_id"].isin(before["q_id"])].reset_index(drop=True)
    # Another processor rounds otherwise.
    pd.testing.assert_frame_equal(same, before, atol=5e-5, rtol=0)
    summary = read_json(paths.step6 / "eval_summary.json")
    assert summary["eval_qids"] == ["antonym", "country_capital", "verb_past"] and summary["contrasts"]
    assert "is stale" in caplog.text
