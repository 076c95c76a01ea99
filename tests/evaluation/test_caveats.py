"""What a summary says beside its numbers: whose trials, which tokens, which leaks, and which baseline wins."""

from pathlib import Path

import pytest
from summaries import made_summary
from tiny_runs import TinyRun

from fv.evaluation.caveats import says_nothing
from fv.evaluation.summary import records
from fv.files import read_json
from fv.report.findings import finding_of
from fv.report.page_tables import tables_of
from fv.report.results import RunResults
from fv.report.terminal import print_report
from fv.runs.paths import RunPaths
from fv.runs.run import open_run
from fv.steps.pipeline import run_pipeline


@pytest.fixture
def quick(tiny_run: TinyRun) -> TinyRun:
    """Everything on, but few resamples, texts and draws."""
    return tiny_run.but(
        {
            "evaluation.held_out": True,
            "stats.n_resamples": 100,
            "analysis.cost.n_texts": 0,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.random_heads.draws": 1,
            "data.n_eval_trials_per_q": 4,
        }
    )


@pytest.mark.slow
def test_trials_that_chose_the_heads_are_not_called_held_out(
    tiny_run: TinyRun, capsys: pytest.CaptureFixture[str]
) -> None:
    step6 = run_pipeline(tiny_run({"data.split": "shared"}))
    summary = read_json(step6 / "eval_summary.json")
    assert summary["eval_split"] == "fit"
    assert any("chose the heads" in line for line in summary["warnings"])
    print_report(step6)
    said = " ".join(capsys.readouterr().out.split())
    assert "all of them chose the heads and gave the vectors" in said and "trials, the test trials" not in said
    apart = run_pipeline(tiny_run(run_id="apart"))
    assert read_json(apart / "eval_summary.json")["eval_split"] == "eval"
    assert not any("chose the heads" in line for line in read_json(apart / "eval_summary.json")["warnings"])


@pytest.mark.slow
def test_relations_whose_first_tokens_collide_are_led_by_exact_match(
    quick: TinyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Every answer starts with the same word, so its first token is always guessed and never known.
    lines = [f"same_start,word{i},the {chr(97 + i % 26)}{i}" for i in range(40)]
    (tmp_path / "same.csv").write_text("\n".join(["q_id,exA,exB", *lines]), encoding="utf-8")
    own = {"data.relation_csv_path": tmp_path / "same.csv", "injection.fv": "all_qids", "eval_scope.mode": "all_qids"}
    config = quick(own, run_id="same")
    step6 = run_pipeline(config)
    summary = read_json(step6 / "eval_summary.json")
    assert [(r["lead_metric"], r["collision_rate"]) for r in summary["relations"]] == [("exact_match", 1.0)]
    assert any("same_start: 100% of its outputs share their first token" in line for line in summary["warnings"])
    print_report(step6)
    said = " ".join(capsys.readouterr().out.split())
    results = RunResults(open_run(RunPaths.of(config).root))
    (row,) = records(results.own)
    assert "exact match goes from 0.00 to 0.00" in finding_of(results, row)[0]
    shown = tables_of(results)[0]
    assert "Accuracy is exact match in same_start" in shown.note and "norm" in shown.header
    assert "→ 0.00 exact" in said and "For comparison: accuracy (exact match of same_start) and Δ log p" in said


@pytest.mark.parametrize(("lead", "due"), [("top1", (0.5, 1.0)), ("exact_match", (0.0, 0.25))])
def test_answers_are_counted_by_the_metric_that_a_relation_is_led_by(lead: str, due: tuple[float, float]) -> None:
    held_out = [
        {"fv": fv, "eval_qid": "q", "condition": name, "subset": "all", "metrics": {"exact_match": {"mean": share}}}
        for fv, name, share in (("", "zero_shot", 0.0), ("q", "fv", 0.25))
    ]
    row = {"fv": "q", "eval_qid": "q", "baseline_accuracy": 0.5, "injected_accuracy": 1.0}
    summary = made_summary(relations=[{"eval_qid": "q", "lead_metric": lead}], held_out=held_out)
    assert summary.answered(row) == due


def test_half_of_the_outputs_colliding_is_where_first_tokens_say_nothing() -> None:
    assert says_nothing({"a": 0.49, "b": 0.5, "c": 1.0}) == ["b", "c"]


@pytest.mark.slow
@pytest.mark.parametrize("q_id", ["antonym", "global"])
def test_eval_pairs_in_other_relations_fit_prompts_are_told_where_vectors_are_made_of_them(
    q_id: str, tiny_run: TinyRun, small_csv: Path, tmp_path: Path
) -> None:
    # A second relation with the same pairs: whatever is asked of one is shown by the other.
    text = small_csv.read_text(encoding="utf-8")
    antonyms = [line for line in text.splitlines() if line.startswith("antonym,")][:24]
    lines = ["q_id,exA,exB", *(line.replace("antonym,", f"{q},") for q in (q_id, "opposite") for line in antonyms)]
    (tmp_path / "twice.csv").write_text("\n".join(lines), encoding="utf-8")
    twice = tiny_run.but({"data.relation_csv_path": tmp_path / "twice.csv"}, run_id="twice")
    matrix = read_json(run_pipeline(twice()) / "eval_summary.json")
    assert any("eval pairs stand in fit prompts of other relations" in line for line in matrix["warnings"])
    own = {"tag": "own", "injection.fv": "qid", "injection.fv_source_qid": q_id}
    alone = read_json(run_pipeline(twice(own)) / "eval_summary.json")
    assert not any("other relations" in line for line in alone["warnings"])
