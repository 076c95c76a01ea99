"""A run that older code wrote is gone on with by every step, not only opened.

`data/run_before_identity.tar.gz` is a small finished run on the embedded model, from before runs were compared by what
decides their results. It was made by
`python -m entrypoints.pipeline data.qids=[antonym,verb_past] data.n_trials_per_q=2 data.n_demos=2
data.n_eval_trials_per_q=4 score.k=3 score.layers=[14,20] injection.fv=all_qids injection.layer=[14,20]
injection.alpha=[1.0,2.0] evaluation.controls.random_vectors=2 evaluation.controls.random_heads=1
analysis.cost.n_texts=2 stats.n_resamples=100 compute.threads=2`: settings that have other keys since.
"""

import logging
import tarfile
from pathlib import Path

import pandas as pd
import pytest
from conftest import MakeConfig
from page_reader import Page

from fv.errors import ArtifactError
from fv.files import read_json, sha256_of
from fv.report.page import write_page
from fv.report.terminal import report
from fv.runs.paths import RunPaths
from fv.runs.run import open_run
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe

ARCHIVE = Path(__file__).parents[1] / "files" / "run_before_identity.tar.gz"
SETTINGS = [
    *("run_id=old", "data.n_trials_per_q=2", "data.n_demos=2", "data.n_eval_trials_per_q=4", "score.k=3"),
    *(
        "score.layers=[14,20]",
        "injection.fv=all_qids",
        "eval_scope=all_qids",
        "injection.layer=[14,20]",
        "injection.alpha=[1.0,2.0]",
    ),
    *("evaluation.conditions.random_vector.draws=2", "evaluation.conditions.random_heads.draws=1"),
    *("evaluation.conditions.ablated_heads.draws=1", "analysis.cost.n_texts=2"),
    *("stats.n_resamples=100", "compute.selfcheck=false"),
    # A condition that the run is from before.
    "evaluation.conditions.refits.enabled=false",
]


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """Settings of the run, unpacked into this test's own folder."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "relation", filter="data")
    return [*SETTINGS, f"results_dir={tmp_path}"]


@pytest.mark.slow
def test_an_old_run_is_complete_under_its_own_settings(make_config: MakeConfig, settings: list[str]) -> None:
    config = make_config(*settings, "data.qids=[antonym,verb_past]")
    artifacts = RunPaths.of(config).artifacts
    before = {path: sha256_of(path) for path in artifacts.rglob("*") if path.is_file()}
    run_pipeline(config)
    assert {path: sha256_of(path) for path in artifacts.rglob("*") if path.is_file() and path in before} == before


def test_the_matrix_of_an_old_run_is_not_taken_for_own_prompts_alone(
    make_config: MakeConfig, settings: list[str]
) -> None:
    config = make_config(*settings, "data.qids=[antonym,verb_past]", "eval_scope=auto")
    with pytest.raises(ArtifactError, match=r"eval_scope: there 'all_qids', here 'in_domain'\n.*tag"):
        run_step6(config)


@pytest.mark.slow
def test_every_step_goes_on_with_an_old_run(
    make_config: MakeConfig, settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(*settings, "data.qids=[antonym,country_capital,verb_past]")
    paths = RunPaths.of(config)
    before = pd.read_csv(paths.artifacts / "cie_scores.csv")
    with caplog.at_level(logging.INFO):
        for step in (run_stepd, run_stepe, run_step6):
            step(config)
    after = pd.read_csv(paths.artifacts / "cie_scores.csv")
    assert sorted(set(after["q_id"])) == ["antonym", "country_capital", "verb_past"]
    same = after[after["q_id"].isin(before["q_id"])].reset_index(drop=True)
    # Another processor rounds otherwise.
    pd.testing.assert_frame_equal(same, before, atol=5e-5, rtol=0)
    summary = read_json(paths.step6 / "eval_summary.json")
    assert summary["eval_qids"] == ["antonym", "country_capital", "verb_past"] and summary["contrasts"]
    assert "is stale" in caplog.text


@pytest.mark.slow
def test_an_old_run_is_opened_and_reported_without_a_headline(
    make_config: MakeConfig, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    paths = RunPaths.of(make_config(*settings))
    run = open_run(paths.root)
    assert "headline" not in run.tables and run.effects.clusters == {}
    assert all(len(run.table(name)) for name in run.tables)
    assert {*run.vectors} >= {"antonym", "verb_past"}
    assert len(run.result.cells) == 4 and len(run.result.table)
    report(make_config(*settings))
    said = " ".join(capsys.readouterr().out.split())
    for told in ("Accuracy of prompts", "Rankings of heads", "Zero-shot answers", "For comparison", "The top heads"):
        assert told in said
    # What was not measured is not told.
    for untold in ("Holm", "refits", "declared contrast", "of few-shot gain", "nan", "None"):
        assert untold not in said
    page = Page(write_page(run).read_text(encoding="utf-8"))
    shown = {row[0][0]: {float(exact) for _, exact in row if exact} for row in page.cells["results"]}
    contrasts = run.table("contrasts").query("condition == 'fv' and subset == 'all' and metric == 'logprob'")
    for q_id in ("antonym", "verb_past"):
        own = contrasts[(contrasts["fv"] == q_id) & (contrasts["eval_qid"] == q_id)].set_index("minus")["mean"]
        assert {own["corrupted_prompts"], own["layer_mean_replaced"]} <= shown[q_id]
