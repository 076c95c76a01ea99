"""What a finished run prints: every step's tables, within 80 columns too, and no word of what was not run."""

import itertools
import re
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import pytest
from commands import ROOT
from rich.cells import cell_len
from tiny_runs import TinyRun, TinyRunIn

from fv.errors import ArtifactError
from fv.files import read_json
from fv.report.terminal import print_heads, print_report, print_vectors, report
from fv.runs.paths import run_folder
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6


@pytest.fixture(scope="module")
def tiny_run(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return tiny_run_in(tmp_path_factory.mktemp("results")).but(
        {
            "stats.n_resamples": 100,
            "score.k": 3,
            "data.n_trials_per_q": 4,
            "data.n_demos": 3,
            "data.n_eval_trials_per_q": 4,
            "injection.fv": ["all_qids", "aie_qid"],
            "eval_scope.mode": "in_domain",
            "analysis.cost.n_texts": 0,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.random_heads.draws": 1,
        }
    )


@pytest.fixture(scope="module")
def step6(tiny_run: TinyRun) -> Path:
    """A run with controls and baselines."""
    return run_pipeline(tiny_run())


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_the_closing_tables_fit_the_terminal_with_all_their_numbers(
    width: int, step6: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_report(step6)
    lines = capsys.readouterr().out.splitlines()
    assert max(cell_len(line) for line in lines if not line.startswith("Run: ")) <= width
    assert "…" not in "".join(lines)
    for row in read_json(step6 / "eval_summary.json")["chosen"]:
        own = " ".join(line for line in lines if line.split()[:1] == [row["fv"]])
        low, high = row["mean_delta_logprob_ci_low"], row["mean_delta_logprob_ci_high"]
        assert f"{row['mean_delta_logprob']:+.1f} [{low:.1f}, {high:.1f}]" in own
        assert f"{row['baseline_accuracy']:.2f} → {row['injected_accuracy']:.2f}" in own


def test_controls_and_baselines_that_were_run_are_shown(step6: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(step6)
    words = said(capsys)
    for told in ("log p minus", "corrupted", "Holm", "few-shot", "For comparison", "@aie: with the heads of the AIE"):
        assert told in words
    assert "among 3 cells on 1 dev trials" in words


def test_the_table_of_right_answers_is_one_table_on_120_columns(
    step6: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    print_report(step6)
    table = capsys.readouterr().out.partition("The right answer")[2].partition("For comparison")[0]
    (header,) = [before for before, line in itertools.pairwise(table.splitlines()) if "───" in line]
    assert header.split()[0] == "vector" and header.split()[-1] == "answers"
    for row in read_json(step6 / "eval_summary.json")["headline"]:
        (line,) = [line for line in table.splitlines() if line.split()[:1] == [row["fv"]]]
        assert f"{row['p_before']:.3f} → {row['p']:.3f}" in line
        assert f"{row['rank_before']:,.0f} → {row['rank']:,.0f}" in line
        assert f"{row['constant']:.2f}, {row['repeat']:.2f}" in line
        new = f"{row['delta_logprob_answer_new']:+.1f} ({row['n_answer_new']})" if row["n_answer_new"] else "none"
        assert line.split()[-len(new.split()) :] == new.split()


def test_the_best_heads_of_every_vector_are_named(step6: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(step6)
    words = said(capsys).partition("The top heads (layer.head), best first: ")[2].partition(".The")[0]
    ranked = read_json(step6.parent / "top_heads.json")
    for key, suffix in (("per_qid", ""), ("aie_per_qid", "@aie")):
        for q_id, own in ranked[key].items():
            best = [f"{each['layer']}.{each['head']}" for each in own[:3]]
            assert f"{q_id}{suffix} {' '.join(best)}" in words


def test_a_grid_alone_points_to_no_control(tiny_run: TinyRun, step6: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert step6
    print_report(run_step6(tiny_run({"evaluation.held_out": False, "injection.fv": "all_qids"}, tag="grid")))
    words = said(capsys)
    assert "Δ log p" in words and "Results for every cell: eval_summary.json" in words
    assert not [word for word in ("minus", "random", "Beside", "condition", "@aie") if word in words]


def test_a_cell_that_was_given_was_not_chosen(
    tiny_run: TinyRun, step6: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step6
    print_report(run_step6(tiny_run({"evaluation.held_out": False, "injection.layer": 1}, tag="one")))
    words = said(capsys)
    assert "Layer 1 and alpha 1 were given, not chosen" in words
    assert "1 cells" not in words and "0 dev" not in words


def test_vectors_of_several_numbers_of_heads_stand_in_their_order(
    tiny_run: TinyRun,
    step6: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert step6
    monkeypatch.setenv("COLUMNS", "120")
    several = {
        "tag": "ks",
        "evaluation.held_out": False,
        "injection.fv": "all_qids",
        "injection.k": [1, 5, 10],
        "injection.layer": 1,
    }
    print_report(run_step6(tiny_run(several)))
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if line.strip().startswith("antonym@")]
    assert shown == ["antonym@k1", "antonym@k5", "antonym@k10"]
    assert "numbers of heads (k) were compared on 1 dev trials" in " ".join(" ".join(lines).split())


def test_stepd_shows_the_heads_of_the_largest_effects(step6: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(step6)
    print_heads(run)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    scores = pd.read_csv(run / "artifacts" / "cie_scores.csv")
    for q_id, own in scores.groupby("q_id"):
        best = own.nlargest(3, "mean_delta_logprob")
        named = [f"{layer}.{head}" for layer, head in zip(best["layer"], best["head"], strict=True)]
        (line,) = [line for line in lines if line[:1] == [q_id]]
        assert line[3:6] == named and line[6] == f"{best['mean_delta_logprob'].iloc[0]:+.2f}"
        assert line[-1] == "4"


def test_stepe_shows_every_ranking_and_says_in_one_line_where_k_cuts_through_ties(
    step6: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(step6)
    print_vectors(run / "artifacts")
    firsts = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert {"global", "antonym", "country_capital", "verb_past"} <= {*firsts}
    (line,) = [line for line in (run / "logs" / "stepE.log").read_text().splitlines() if "cuts through a tie" in line]
    assert "k=3" in line and " of 4 rankings (" in line


def test_a_finished_run_is_shown_again_whole(
    tiny_run: TinyRun, step6: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report(tiny_run()) == run_folder(step6)
    words = said(capsys)
    assert "Accuracy of prompts" in words and "Rankings of heads" in words and "Zero-shot answers" in words


def test_a_run_that_is_not_there_is_refused_with_those_that_are(tiny_run: TinyRun, step6: Path) -> None:
    assert step6
    with pytest.raises(ArtifactError, match=r"No step has finished in .*nope.* There are r\."):
        report(tiny_run(run_id="nope"))


def test_everything_that_a_run_leaves_is_explained_on_the_first_page(step6: Path) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    table = page.partition("What a run leaves")[2].partition("\n\nTensors")[0]
    first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    told = [name for cell in first for name in re.findall(r"`([^`]+)`", cell)]
    # `step6/` stands before the first of several files; of other folders, the folder is what is left.
    patterns = {name.removeprefix("step6/").split("/")[0] for name in told}
    left = [path.name for folder in (step6, step6.parent) for path in folder.iterdir() if not path.name.startswith(".")]
    own = [name for name in left if name not in ("step6", "step6.log", "grid", "one", "ks")]
    assert len(own) > 25 and "*" not in patterns
    assert not [name for name in own if not any(fnmatch(name, pattern) for pattern in patterns)]
    assert {"of", "compared_with"} <= {*pd.read_csv(step6 / "held_out.csv").columns}
    assert "`of`" in table and "`compared_with`" in table


def test_the_contracts_two_names_of_the_summary_hold_the_same_bytes(step6: Path) -> None:
    for name, other in (("step6_results", "eval_summary.json"), ("metadata_step6", "eval_meta.json")):
        (path,) = step6.glob(f"{name}_*.json")
        assert path.read_bytes() == (step6 / other).read_bytes()
