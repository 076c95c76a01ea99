"""Step6's second half on a tiny model: every condition against plain hooks, and what settings switch."""

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from answer_oracle import oracle
from conftest import TINY_QIDS, loaded
from tiny_runs import TinyRun, TinyRunIn

from fv.config import Config
from fv.data.snapshot import read_snapshot
from fv.data.trial import Trial
from fv.errors import ArtifactError, ConfigError, TrialError
from fv.evaluation import condition_providers
from fv.files import read_json, read_torch
from fv.interventions.edits import AddVector, LastTokenEdit, ReplaceResidual, SetHeads
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.records import StepDRecord, read_record
from fv.runs.results import StepdResults
from fv.steps.gather import run_gather
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd

TABLES = (".csv", ".json", ".png", ".svg")
FILES = ("held_out.csv", "contrasts.csv")


@pytest.fixture(scope="module")
def tiny_run(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return tiny_run_in(tmp_path_factory.mktemp("results")).but(
        {
            "stats.n_resamples": 200,
            "analysis.cost.n_texts": 3,
            "data.n_trials_per_q": 5,
            "data.n_demos": 3,
            "data.n_eval_trials_per_q": 7,
            "score.k": 3,
            "injection.fv": "all_qids",
            "eval_scope.mode": "all_qids",
            "injection.alpha": [0.5, 3.0],
        }
    )


@pytest.fixture(scope="module")
def config(tiny_run: TinyRun) -> Config:
    return tiny_run()


@pytest.fixture(scope="module")
def run(config: Config) -> RunPaths:
    run_pipeline(config)
    return RunPaths.of(config)


@pytest.fixture(scope="module")
def stepd(run: RunPaths) -> StepdResults:
    return StepdResults.read(run, read_record(run.stepd_meta, StepDRecord))


@pytest.fixture(scope="module")
def trials(run: RunPaths) -> pd.DataFrame:
    lines = (run.step6 / "held_out_trials.jsonl").read_text(encoding="utf-8").splitlines()
    return pd.DataFrame(map(json.loads, lines))


Score = Callable[[str, str, LastTokenEdit], np.ndarray]


@pytest.fixture(scope="module")
def score(config: Config, run: RunPaths, trials: pd.DataFrame) -> Score:
    """First-token log p, by full forwards with plain hooks, of a relation's test trials under one edit."""
    lm = loaded(config)
    of_id = {trial.trial_id: trial for trial in read_snapshot(run.snapshot).trials}

    def logprobs(q_id: str, prompt: str, edit: LastTokenEdit) -> np.ndarray:
        return np.array(
            [one(lm, of_id[i], prompt, edit) for i in sorted(set(trials[trials.eval_qid == q_id].trial_id))]
        )

    return logprobs


def one(lm: LanguageModel, trial: Trial, prompt: str, edit: LastTokenEdit) -> float:
    ids = lm.encode(trial.prompt(prompt), False)
    with torch.no_grad():
        return float(oracle(lm, ids, [], edit)[0].double().log_softmax(-1)[trial.target_first_token_id])


def rows_of(trials: pd.DataFrame, q_id: str, condition: str, draw: int = 0) -> pd.DataFrame:
    own = trials[(trials.eval_qid == q_id) & (trials.condition == condition) & (trials.draw == draw)]
    return own[own.fv.isin(["", q_id])].sort_values("trial_id")


def heads_of(run: RunPaths, q_id: str) -> tuple[Head, ...]:
    return tuple(Head(h["layer"], h["head"]) for h in read_json(run.stepe / "top_heads.json")["per_qid"][q_id])


@pytest.mark.parametrize("q_id", TINY_QIDS)
def test_each_condition_is_what_plain_hooks_give(
    q_id: str, run: RunPaths, trials: pd.DataFrame, stepd: StepdResults, score: Score
) -> None:
    vector = read_torch(run.stepe / "fv_qid.pt")[q_id]["vector"]
    fv = rows_of(trials, q_id, "fv").iloc[0]
    mended = rows_of(trials, q_id, "few_shot_corrupted_fv").iloc[0]
    added = rows_of(trials, q_id, "layer_mean_added").iloc[0]
    replaced = rows_of(trials, q_id, "layer_mean_replaced").iloc[0]
    means = stepd.effects.means[q_id]
    difference = means.residual - means.zero_shot_residual
    due = {
        "zero_shot": ("zero_shot", None),
        "few_shot": ("clean", None),
        "few_shot_corrupted": ("corrupted", None),
        "fv": ("zero_shot", AddVector(int(fv.layer), fv.alpha * vector)),
        "few_shot_corrupted_fv": ("corrupted", AddVector(int(mended.layer), mended.alpha * vector)),
        "layer_mean_added": ("zero_shot", AddVector(int(added.layer), added.alpha * difference[int(added.layer)])),
        "layer_mean_replaced": (
            "zero_shot",
            ReplaceResidual(int(replaced.layer), means.residual[int(replaced.layer)], replaced.alpha),
        ),
        "ablated_top_heads": ("clean", SetHeads(heads_of(run, q_id), means.corrupted)),
    }
    for condition, (prompt, edit) in due.items():
        found = rows_of(trials, q_id, condition)["logprob"].to_numpy()
        np.testing.assert_allclose(found, score(q_id, prompt, edit), atol=5e-5, err_msg=condition)


def n_random_sets(heads: tuple[Head, ...]) -> int:
    """How many sets of random heads there are, ten at most: as many in each layer, of four heads."""
    counts = Counter(head.layer for head in heads).values()
    # Of a layer that gives three heads one is left, and two of four are taken from the layer nearest to it.
    return min(10, math.comb(4, 2) if max(counts) == 3 else math.prod(math.comb(4 - n, n) for n in counts))


def test_every_vector_has_all_its_controls_and_baselines(run: RunPaths, trials: pd.DataFrame) -> None:
    for q_id in TINY_QIDS:
        n_sets = n_random_sets(heads_of(run, q_id))
        here = trials[(trials.eval_qid == q_id) & trials.fv.isin(["", q_id])]
        draws = here.groupby("condition")["draw"].nunique().to_dict()
        assert draws == {
            "zero_shot": 1,
            "few_shot": 1,
            "few_shot_corrupted": 1,
            "few_shot_corrupted_fv": 1,
            "fv": 1,
            "fv_refit": 20,
            "corrupted_prompts_refit": 20,
            "layer_mean_added": 1,
            "layer_mean_replaced": 1,
            "ablated_top_heads": 1,
            "ablated_random_heads": n_sets,
            "random_vector": 20,
            "random_heads": n_sets,
            "bottom_heads": 1,
            "corrupted_prompts": 1,
            "other_relation": 2,
            "mean_of_others": 1,
        }
        # Off the diagonal a vector is compared with the controls of the relation's own.
        others = trials[(trials.eval_qid == q_id) & ~trials.fv.isin(["", q_id])]
        assert set(others.condition) == {"fv"} and set(others.compared_with) == {q_id}


def test_refits_are_run_at_the_cell_of_what_they_are_refits_of(trials: pd.DataFrame) -> None:
    where = ["layer", "alpha"]
    for (_, _, draw), own in trials[trials.refit_of.notna()].groupby(["fv", "eval_qid", "draw"]):
        assert draw in range(20) and set(own.condition) == {"fv_refit", "corrupted_prompts_refit"}
        for condition, rows in own.groupby("condition"):
            (fv, q_id), *_ = rows[["fv", "eval_qid"]].itertuples(index=False, name=None)
            here = trials[(trials.fv == fv) & (trials.eval_qid == q_id)]
            of = here[here.condition == str(condition).removesuffix("_refit")]
            assert set(rows.refit_of) == set(of.condition) and (rows[where].values == of[where].values[0]).all()


def test_the_vector_and_its_contrasts_are_widened_by_twenty_refits_on_its_own_relation(run: RunPaths) -> None:
    means, contrasts = (pd.read_csv(run.step6 / name) for name in FILES)
    own = means[means["condition"].isin(["fv", "corrupted_prompts"]) & (means["fv"] == means["eval_qid"])]
    assert len(own) and set(own["n_refits"]) == {20} and (own["refit_sd"] >= 0).all()
    assert means.drop(own.index)["n_refits"].isna().all()
    own = contrasts[(contrasts["condition"] == "fv") & (contrasts["fv"] == contrasts["eval_qid"])]
    assert len(own) and set(own["n_refits"]) == {20}
    assert contrasts.drop(own.index)["n_refits"].isna().all()


def test_a_vector_in_corrupted_prompts_is_never_worse_on_dev_trials_than_these_prompts_alone(
    config: Config, run: RunPaths, trials: pd.DataFrame
) -> None:
    lm = loaded(config)
    grid = pd.DataFrame(map(json.loads, (run.step6 / "eval_trials.jsonl").read_text().splitlines()))
    dev = set(grid[grid.part == "dev"].trial_id)
    of_dev = [trial for trial in read_snapshot(run.snapshot).trials if trial.trial_id in dev]
    for q_id in TINY_QIDS:
        vector = read_torch(run.stepe / "fv_qid.pt")[q_id]["vector"]
        at = rows_of(trials, q_id, "few_shot_corrupted_fv").iloc[0]
        edits = (AddVector(int(at.layer), at.alpha * vector), None)
        own = [trial for trial in of_dev if trial.q_id == q_id]
        with_vector, alone = (np.mean([one(lm, trial, "corrupted", edit) for trial in own]) for edit in edits)
        assert len(own) == 2 and with_vector >= alone - 1e-5


def test_only_test_trials_are_reported_and_only_dev_trials_choose(run: RunPaths, trials: pd.DataFrame) -> None:
    grid = pd.DataFrame(map(json.loads, (run.step6 / "eval_trials.jsonl").read_text().splitlines()))
    parts = grid.drop_duplicates("trial_id").set_index("trial_id")["part"]
    assert parts.value_counts().to_dict() == {"test": 15, "dev": 6}
    assert set(trials.trial_id) == set(parts[parts == "test"].index)
    dev = grid[grid.part == "dev"].groupby(["fv", "eval_qid", "layer", "alpha"])["delta_logprob"].mean()
    for row in read_json(run.step6 / "eval_summary.json")["chosen"]:
        best = dev[row["fv"], row["eval_qid"]].idxmax()
        assert best == (row["layer"], row["alpha"])
        test = grid[(grid.part == "test") & (grid.fv == row["fv"]) & (grid.eval_qid == row["eval_qid"])]
        test = test[(test.layer == row["layer"]) & (test.alpha == row["alpha"])]
        assert row["mean_delta_logprob"] == pytest.approx(test["delta_logprob"].mean(), rel=1e-12)
        assert row["mean_delta_logprob_ci_low"] <= row["mean_delta_logprob"] <= row["mean_delta_logprob_ci_high"]
        assert (row["n_dev"], row["n_test"]) == (2, 5)


def test_the_chosen_cell_of_the_grid_and_of_the_test_run_agree(run: RunPaths) -> None:
    summary = read_json(run.step6 / "eval_summary.json")
    held_out = {
        (r["fv"], r["eval_qid"]): r["metrics"]["delta_logprob"]["mean"]
        for r in summary["held_out"]
        if r["condition"] == "fv" and r["subset"] == "all"
    }
    assert len(held_out) == len(summary["chosen"]) == 9
    for row in summary["chosen"]:
        assert held_out[row["fv"], row["eval_qid"]] == pytest.approx(row["mean_delta_logprob"], abs=5e-5)


def test_the_summary_has_every_section(run: RunPaths) -> None:
    summary = read_json(run.step6 / "eval_summary.json")
    assert {r["eval_qid"] for r in summary["relations"]} == set(TINY_QIDS)
    for row in summary["relations"]:
        assert row["n_dev"] + row["n_test"] == 7 and 0 <= row["majority_accuracy"] <= 1
    minus = {r["minus"] for r in summary["contrasts"] if r["condition"] == "fv"}
    assert {"random_vector", "random_heads", "bottom_heads", "corrupted_prompts", "other_relation"} <= minus
    (dominance,) = summary["transfer"]["dominance"]
    assert dominance["n_relations"] == 3 and dominance["ci_low"] <= dominance["mean"] <= dominance["ci_high"]
    assert {r["condition"] for r in summary["injection_cost"]} >= {"fv", "random_vector", "layer_mean_added"}
    assert all(r["mean"] >= 0 for r in summary["injection_cost"])
    assert set(FILES) <= set(read_json(run.step6 / "eval_meta.json")["outputs"])


def check_same_analyses(one: RunPaths, other: RunPaths) -> None:
    """Refuse analyses after Step6 that are not there, or of other bytes."""
    for name in ("transfer", "cost"):
        found = [
            {path.name: path.read_bytes() for path in paths.analysis(name).glob("[!.]*") if path.suffix in TABLES}
            for paths in (one, other)
        ]
        assert found[0].pop("analysis_meta.json") and found[1].pop("analysis_meta.json")
        assert len(found[0]) > 1 and found[0] == found[1], name


@pytest.mark.slow
def test_a_second_run_writes_the_same_bytes(tiny_run: TinyRun, run: RunPaths) -> None:
    other = tiny_run(run_id="again")
    again = run_pipeline(other)
    for name in ("eval_summary.json", "held_out_trials.jsonl", *FILES):
        assert (again / name).read_bytes() == (run.step6 / name).read_bytes(), name
    for name in ("cie_stats.csv", "aie_stats.csv"):
        assert (RunPaths.of(other).artifacts / name).read_bytes() == (run.artifacts / name).read_bytes(), name
    check_same_analyses(RunPaths.of(other), run)


@pytest.mark.slow
def test_cells_of_a_sweep_gather_into_the_single_jobs_bytes(tiny_run: TinyRun, run: RunPaths) -> None:
    cells = tiny_run.but(tag="swept")
    for layer in (0, 1, 2):
        run_step6(cells({"injection.layer": layer}), as_cell=True)
    gathered = run_gather(cells())
    single = run_step6(tiny_run({"injection.layer": [0, 1, 2]}, tag="single"))
    for name in ("eval_summary.json", "eval_trials.jsonl", "held_out_trials.jsonl", *FILES):
        assert (gathered / name).read_bytes() == (single / name).read_bytes(), name
    check_same_analyses(replace(run, tag="swept"), replace(run, tag="single"))


@pytest.mark.slow
def test_one_ranking_gives_vectors_of_every_k(
    tiny_run: TinyRun, run: RunPaths, stepd: StepdResults, config: Config
) -> None:
    ks = tiny_run({"injection.k": [1, 3, 5], "eval_scope.mode": "in_domain", "analysis.cost.n_texts": 0}, tag="ks")
    summary = read_json(run_step6(ks) / "eval_summary.json")
    assert summary["fvs"] == sorted(f"{q_id}@k{k}" for q_id in TINY_QIDS for k in (1, 3, 5))
    assert {row["k"] for row in summary["chosen"]} == {1, 3, 5}
    # Dev trials choose one k a relation.
    for q_id in TINY_QIDS:
        own = [row for row in summary["chosen"] if row["fv_source"] == q_id]
        best = max(own, key=lambda row: (row["dev_mean_delta_logprob"], -row["k"]))
        assert [row["fv"] for row in own if row["best_k"]] == [best["fv"]]
    # The one of StepE's own k is StepE's vector.
    grid = read_json(run.step6 / "eval_summary.json")["rows"]
    at_3 = [row for row in summary["rows"] if row["k"] == 3]
    stepe = {(r["fv"], r["layer"], r["alpha"]): r["mean_delta_logprob"] for r in grid if r["fv"] == r["eval_qid"]}
    for row in at_3:
        assert row["mean_delta_logprob"] == pytest.approx(stepe[row["fv_source"], row["layer"], row["alpha"]], abs=2e-5)


@pytest.mark.slow
def test_switched_off_means_not_there(tiny_run: TinyRun, run: RunPaths) -> None:
    off = {f"evaluation.conditions.{name}.enabled": name == "random_vector" for name in condition_providers()}
    few = {"analysis.cost.n_texts": 0, "eval_scope.mode": "in_domain"}
    step6 = run_step6(tiny_run(off, few, {"evaluation.conditions.random_vector.draws": 1}, tag="off"))
    held_out = pd.read_csv(step6 / "held_out.csv")
    assert set(held_out["condition"]) == {"zero_shot", "few_shot", "fv", "random_vector"}
    assert not (replace(run, tag="off").analysis("cost") / "injection_cost.csv").exists()
    assert read_json(step6 / "eval_summary.json")["injection_cost"] == []
    alone = run_step6(tiny_run({"evaluation.held_out": False}, tag="grid"))
    assert not (alone / "held_out.csv").exists() and not replace(run, tag="grid").analysis("transfer").exists()
    assert "held_out" not in read_json(alone / "eval_summary.json") and read_json(alone / "eval_summary.json")["chosen"]


@pytest.mark.slow
def test_a_vector_of_a_file_has_the_controls_that_need_no_heads(tiny_run: TinyRun, run: RunPaths) -> None:
    file = {"tag": "file", "injection.fv": "file", "injection.fv_path": run.stepe / "fv_global_resid.pt"}
    held_out = pd.read_csv(run_step6(tiny_run(file)) / "held_out.csv")
    own = set(held_out[held_out["fv"] == "file"]["condition"])
    assert own == {"fv", "random_vector", "few_shot_corrupted_fv"}


@pytest.mark.slow
def test_one_cell_needs_no_dev_trials(tiny_run: TinyRun, run: RunPaths) -> None:
    one_cell = {
        "tag": "one",
        "injection.layer": 1,
        "injection.alpha": 1.0,
        "injection.n_eval": 1,
        "analysis.cost.n_texts": 0,
    }
    summary = read_json(run_step6(tiny_run(one_cell)) / "eval_summary.json")
    assert {(row["n_dev"], row["n_test"]) for row in summary["chosen"]} == {(0, 1)}
    assert all(row["mean_delta_logprob_ci_low"] is None for row in summary["chosen"])


def test_a_relation_too_small_for_two_parts_is_refused_before_anything_is_computed(
    tiny_run: TinyRun, run: RunPaths
) -> None:
    with pytest.raises(
        TrialError, match=r"antonym: its 1 eval trials .* needs 2.*data\.n_eval_trials_per_q.*injection\.n_eval"
    ):
        run_step6(tiny_run({"injection.n_eval": 1}, tag="small"))
    assert not (run.artifacts / "step6" / "small" / "eval_trials.jsonl").exists()
    with pytest.raises(ConfigError, match=r"dev_fraction=0 leaves no trials to choose one of 6 cells"):
        run_step6(tiny_run({"evaluation.dev_fraction": 0}, tag="small"))
    with pytest.raises(ConfigError, match=r"analysis\.cost\.n_texts=99, but .* holds 16 texts"):
        run_step6(tiny_run({"analysis.cost.n_texts": 99}, tag="small"))


@pytest.mark.slow
def test_adaptive_trials_stop_when_the_ranking_is_stable(tiny_run: TinyRun, run: RunPaths, stepd: StepdResults) -> None:
    adaptive = tiny_run.but(
        {"data.n_trials_per_q": 12, "score.adaptive": True, "score.adaptive_step": 4}, run_id="adaptive"
    )
    n_trials = {}
    for wanted in (0.01, 0.9999):
        config = adaptive({"score.adaptive_inclusion": wanted}, overwrite=True)
        run_stepd(config)
        paths = RunPaths.of(config)
        scores = pd.read_csv(paths.artifacts / "cie_scores.csv")
        n_trials[wanted] = set(scores["n_trials"])
        found = StepdResults.read(paths, read_record(paths.stepd_meta, StepDRecord))
        for q_id, effects in found.effects.effects.items():
            assert {effects.n_trials} == set(scores[scores["q_id"] == q_id]["n_trials"])
    assert n_trials[0.01] == {4} and max(n_trials[0.9999]) > 4
    with pytest.raises(ArtifactError, match=r"score\.adaptive_inclusion: there 0\.9999, here 0\.5"):
        run_stepd(adaptive({"score.adaptive_inclusion": 0.5}))
