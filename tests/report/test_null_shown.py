"""The p of the null stands on terminal and page where the null was run on these results, and nowhere else."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from analysed import ANALYSED, asked
from conftest import MakeConfig
from tiny_runs import TinyRunIn

from fv.evaluation.null import NullDraws
from fv.evaluation.summary import records
from fv.report.findings import finding_of
from fv.report.page_tables import tables_of
from fv.report.results import RunResults
from fv.report.terminal import print_report
from fv.runs.run import open_run
from fv.steps.analyses import run_analyse
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6

N_DRAWS = 20
ON = {"evaluation.conditions.corrupted_prompts.enabled": True}


@pytest.fixture(scope="module")
def finished(make_config: MakeConfig, tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a run with the null, whose draws are planted: from far below the vector's to far above."""
    results = tmp_path_factory.mktemp("with_null")
    run_pipeline(tiny_run_in(results)(ANALYSED, ON))

    def draw(_: NullDraws, q_id: str, number: int) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "condition": "fv",
                "minus": "corrupted_prompts",
                "metric": ["logprob"],
                "n": 3,
                "mean": float(number % 2),
                "se": 0.001,
                "ci_low": -1.0,
                "ci_high": 1.0,
                "q_id": q_id,
                "draw": number,
            }
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(NullDraws, "draw", draw)
        run_analyse(make_config(*asked(results, ["null"], f"analysis.null.draws={N_DRAWS}"), entrypoint="analyse"))
    return results


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run for one test."""
    return shutil.copytree(finished, tmp_path / "results") / "relation" / "r"


def shown(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str, list[str]]:
    """What terminal and page say: the tables, the findings, and the header of the table of results."""
    print_report(root / "artifacts" / "step6")
    results = RunResults(open_run(root))
    findings = " ".join(line for row in records(results.own) for line in finding_of(results, row))
    return capsys.readouterr().out, findings, tables_of(results)[0].header


@pytest.mark.slow
def test_a_null_that_was_run_is_shown_with_its_draws(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    p = open_run(root).table("null_p").set_index(["fv", "condition", "minus", "metric"])["p_greater"]
    terminal, findings, header = shown(root, capsys)
    # The last part of the first table begins where its header names the draws.
    after = terminal.partition("Layer and alpha")[0].partition(f"({N_DRAWS})")[2]
    assert "null p" in header and "null draws" in header
    for q_id in ("antonym", "verb_past"):
        own = f"{p[q_id, 'fv', 'corrupted_prompts', 'logprob']:.2f}".lstrip("0")
        assert f"{own} under the null of {N_DRAWS} shuffled relations" in findings
        lines = [line for line in after.splitlines() if line.split()[:1] == [q_id] and "→" not in line]
        assert own in lines[0].split()


@pytest.mark.slow
def test_a_null_of_other_results_is_not_shown(
    root: Path,
    tiny_run_in: TinyRunIn,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_step6(tiny_run_in(root.parents[1])(ANALYSED, ON, {"injection.alpha": [1, 2]}))
    assert (root / "artifacts" / "analyses" / "null" / "null_p.csv").exists()
    terminal, findings, header = shown(root, capsys)
    assert f"({N_DRAWS})" not in terminal and "Holm" in terminal
    assert "adjusted over relations" in findings and "under the null" not in findings
    assert "null p" not in header


@pytest.mark.slow
def test_a_run_without_a_null_shows_none(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(root / "artifacts" / "analyses" / "null")
    terminal, findings, header = shown(root, capsys)
    assert f"({N_DRAWS})" not in terminal and "under the null" not in findings and "null p" not in header
