"""The three steps under other settings than the defaults."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tiny_runs import TinyRun

from fv.data.snapshot import read_snapshot
from fv.files import read_json
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.steps.stepd import run_stepd


def test_shared_split_evaluates_on_the_fit_trials(tiny_run: TinyRun) -> None:
    config = tiny_run({"data.split": "shared", "injection.quick_eval": True})
    folder = run_pipeline(config)
    trials = {json.loads(line)["trial_id"] for line in (folder / "eval_trials.jsonl").read_text().splitlines()}
    assert trials == {trial.trial_id for trial in read_snapshot(RunPaths.of(config).snapshot).trials}
    # StepE's quick look is of the same trials, and says so as Step6 does.
    for summary in (read_json(folder / "eval_summary.json"), read_json(folder.parent / "stepE_eval.json")):
        assert summary["eval_split"] == "fit"
        assert any("chose the heads" in line for line in summary["warnings"])


def test_layers_and_heads_not_swept_are_nan(tiny_run: TinyRun) -> None:
    config = tiny_run({"score.layers": [0, 2], "score.heads": 1, "score.k": 2, "score.n_trials": 2})
    run_pipeline(config)
    arrays = np.load(RunPaths.of(config).artifacts / "cie_trials.npz")
    swept = ~np.isnan(arrays["delta_logprob"])
    assert swept.sum() == 3 * 2 * 2 and swept[:, [0, 2], 1].all()
    assert (arrays["layers"].tolist(), arrays["heads"].tolist()) == ([0, 2], [1])


def test_n_mean_trials_averages_the_first_clean_prompts(tiny_run: TinyRun) -> None:
    one = tiny_run({"data.n_mean_trials": 1})
    run_stepd(one)
    few = tiny_run({"data.n_trials_per_q": 1}, run_id="few")
    run_stepd(few)
    means = [torch.load(RunPaths.of(c).qid_mean("antonym"), weights_only=True)["clean_mean"] for c in (one, few)]
    torch.testing.assert_close(means[0], means[1], rtol=0, atol=2e-5)


def test_dropped_trials_are_recorded_in_snapshot_and_metadata(tiny_run: TinyRun, tmp_path: Path) -> None:
    csv = tmp_path / "short.csv"
    pairs = [f"big,in{i},out{i}" for i in range(12)] + [f"small,a{i},b{i}" for i in range(6)]
    csv.write_text("q_id,exA,exB\n" + "\n".join([*pairs, "single,x,y"]) + "\n")
    config = tiny_run({"data.relation_csv_path": csv, "data.allow_drop": True})
    folder = run_pipeline(config)
    meta = read_snapshot(RunPaths.of(config).snapshot).meta
    assert meta.dropped_qids == ["single"]
    assert (meta.counts["small"].eval_asked, meta.counts["small"].eval) == (3, 2)
    written = read_json(folder / "eval_meta.json")
    assert written["dropped_qids"] == ["single"]
    assert written["trials_per_qid"] == {"big": 3, "small": 2}
    aie = pd.read_csv(RunPaths.of(config).artifacts / "aie_scores.csv")
    assert (aie["n_qids"] == 2).all()


def test_no_global_generator_decides_a_trial(tiny_run: TinyRun) -> None:
    torch.manual_seed(123)
    np.random.seed(5)
    config = tiny_run()
    run_stepd(config)
    first = RunPaths.of(config).snapshot.read_bytes()
    torch.manual_seed(7)
    np.random.seed(6)
    again = tiny_run(run_id="again")
    run_stepd(again)
    assert RunPaths.of(again).snapshot.read_bytes() == first
