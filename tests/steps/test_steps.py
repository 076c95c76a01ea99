"""The three steps on a tiny model and real relations: every file, its schema, and what must not change it."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY_QIDS
from tiny_runs import GRID, Settings, TinyRun, TinyRunIn, configured

from fv.config import Config
from fv.data.snapshot import read_snapshot
from fv.files import sha256_of
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe

N_LAYERS, N_HEADS, HEAD_DIM, D_MODEL = 3, 4, 12, 40


@pytest.fixture(scope="module")
def config(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> Config:
    return tiny_run_in(tmp_path_factory.mktemp("results"))(
        GRID,
        {
            "data.n_eval_trials_per_q": 4,
            "injection.fv": "all_qids",
            "injection.alpha": [0.5, 1.0],
            "injection.quick_eval": True,
            "eval_scope.mode": "all_qids",
        },
    )


@pytest.fixture(scope="module")
def run(config: Config) -> RunPaths:
    """One finished pipeline, read only."""
    run_pipeline(config)
    return RunPaths.of(config)


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_file_of_the_contract_exists(run: RunPaths) -> None:
    names = {path.relative_to(run.root).as_posix() for path in run.root.rglob("*") if path.is_file()}
    due = {
        *("artifacts/sampled_trials.json", "artifacts/cie_scores.csv", "artifacts/aie_scores.csv"),
        *("artifacts/trial_metrics.jsonl", "artifacts/cie_trials.npz", "artifacts/mean_activations.pt"),
        *("artifacts/stepD_mean_acts/global_clean_mean.pt", "artifacts/top_heads.json", "artifacts/stepE_eval.json"),
        *(f"artifacts/stepD_mean_acts/qid_{q_id}_clean_mean.pt" for q_id in TINY_QIDS),
        *("artifacts/fv_by_layer.pt", "artifacts/fv_global_resid.pt", "artifacts/fv_global_resid_meta.json"),
        *("artifacts/fv_qid.pt", "artifacts/step6/eval_summary.json", "artifacts/step6/eval_trials.jsonl"),
        *("artifacts/step6/eval_meta.json", "artifacts/step6/step6.log", "logs/stepD_aie.log", "logs/stepE.log"),
        "artifacts/step6/step6_results_tiny_layer0-2_n12.json",
        "artifacts/step6/metadata_step6_tiny_layer0-2_n12.json",
    }
    assert due <= names


def test_score_tables_have_the_contracts_columns_and_every_head(run: RunPaths) -> None:
    cie = pd.read_csv(run.artifacts / "cie_scores.csv")
    assert list(cie.columns) == ["q_id", "layer", "head", "n_trials", "mean_delta_logprob", "mean_delta_p"]
    assert len(cie) == len(TINY_QIDS) * N_LAYERS * N_HEADS
    assert (cie["n_trials"] == 3).all()
    aie = pd.read_csv(run.artifacts / "aie_scores.csv")
    assert list(aie.columns) == ["layer", "head", "n_qids", "mean_delta_logprob", "mean_delta_p"]
    expected = cie.groupby(["layer", "head"])["mean_delta_logprob"].mean().to_numpy()
    np.testing.assert_allclose(aie["mean_delta_logprob"], expected, rtol=1e-12)


def test_trial_arrays_average_to_the_score_table(run: RunPaths) -> None:
    arrays = np.load(run.artifacts / "cie_trials.npz", allow_pickle=False)
    assert set(arrays) == {"trial_id", "q_id", "query", "delta_logprob", "delta_p", "layers", "heads"}
    assert arrays["delta_logprob"].shape == (9, N_LAYERS, N_HEADS)
    cie = pd.read_csv(run.artifacts / "cie_scores.csv")
    for q_id in TINY_QIDS:
        mean = arrays["delta_logprob"][arrays["q_id"] == q_id].mean(0).flatten()
        np.testing.assert_allclose(cie[cie["q_id"] == q_id]["mean_delta_logprob"], mean, rtol=1e-12)


def test_trial_metrics_have_a_line_a_fit_trial(run: RunPaths) -> None:
    rows = [json.loads(line) for line in (run.artifacts / "trial_metrics.jsonl").read_text().splitlines()]
    fit = [trial.trial_id for trial in read_snapshot(run.snapshot).trials if trial.split == "fit"]
    assert [row["trial_id"] for row in rows] == fit
    for row in rows:
        for kind in ("clean", "corrupted", "zero_shot"):
            assert row[f"{kind}_p"] == pytest.approx(np.exp(row[f"{kind}_logprob"]))
            assert row[f"{kind}_correct"] == (row[f"{kind}_rank"] == 0)


def test_tensors_are_read_with_weights_only_and_have_the_contracts_shapes(run: RunPaths) -> None:
    mean = torch.load(run.mean_acts / "global_clean_mean.pt", weights_only=True)
    assert mean["clean_mean"].shape == (N_LAYERS, N_HEADS, HEAD_DIM)
    assert (mean["n_heads"], mean["head_dim"], mean["resid_dim"]) == (N_HEADS, HEAD_DIM, D_MODEL)
    legacy = torch.load(run.artifacts / "mean_activations.pt", weights_only=True)
    assert torch.equal(legacy[:, :, 0], mean["clean_mean"])
    by_layer = torch.load(run.artifacts / "fv_by_layer.pt", weights_only=True)
    vector = torch.load(run.artifacts / "fv_global_resid.pt", weights_only=True)
    assert by_layer.shape == (N_LAYERS, D_MODEL)
    torch.testing.assert_close(by_layer.sum(0), vector, rtol=0, atol=0)
    assert set(torch.load(run.artifacts / "fv_qid.pt", weights_only=True)) == set(TINY_QIDS)


def test_relation_vector_is_the_sum_of_its_heads_contributions(run: RunPaths, tiny_llama: LanguageModel) -> None:
    item = torch.load(run.artifacts / "fv_qid.pt", weights_only=True)["antonym"]
    mean = torch.load(run.qid_mean("antonym"), weights_only=True)["clean_mean"]
    parts = [
        tiny_llama.model.model.layers[layer].self_attn.o_proj.weight[:, head * HEAD_DIM : (head + 1) * HEAD_DIM]
        @ mean[layer, head]
        for layer, head in item["heads"]
    ]
    torch.testing.assert_close(item["vector"], torch.stack(parts).sum(0))


def test_heads_are_the_best_of_each_relations_own_ranking(run: RunPaths) -> None:
    cie = pd.read_csv(run.artifacts / "cie_scores.csv")
    top = load(run.artifacts / "top_heads.json")
    for q_id in TINY_QIDS:
        best = cie[cie["q_id"] == q_id].nlargest(3, "mean_delta_logprob")
        assert [(h["layer"], h["head"]) for h in top["per_qid"][q_id]] == list(
            zip(best["layer"], best["head"], strict=True)
        )


def test_summary_holds_every_cell_and_the_matrix_repeats_it(run: RunPaths) -> None:
    summary = load(run.step6 / "eval_summary.json")
    assert len(summary["rows"]) == 3 * 3 * N_LAYERS * 2
    for row in summary["rows"]:
        cells = summary["matrix"][row["fv"]][row["eval_qid"]]
        (cell,) = [c for c in cells if (c["layer"], c["alpha"]) == (row["layer"], row["alpha"])]
        assert cell["mean_delta_logprob"] == row["mean_delta_logprob"]


def test_summary_is_the_mean_of_the_trial_lines(run: RunPaths) -> None:
    rows = pd.DataFrame(json.loads(line) for line in (run.step6 / "eval_trials.jsonl").read_text().splitlines())
    means = rows.groupby(["fv", "eval_qid", "layer", "alpha"])["delta_logprob"].mean()
    for row in load(run.step6 / "eval_summary.json")["rows"]:
        key = (row["fv"], row["eval_qid"], row["layer"], row["alpha"])
        assert row["mean_delta_logprob"] == pytest.approx(means[key], rel=1e-12)


def test_step6_evaluates_held_out_trials_only(run: RunPaths) -> None:
    rows = [json.loads(line) for line in (run.step6 / "eval_trials.jsonl").read_text().splitlines()]
    held_out = {trial.trial_id for trial in read_snapshot(run.snapshot).trials if trial.split == "eval"}
    assert {row["trial_id"] for row in rows} == held_out


def test_metadata_tells_what_a_reader_needs(run: RunPaths, config: Config) -> None:
    meta = load(run.step6 / "eval_meta.json")
    assert meta["config"] == config.resolved()
    assert {"eval_scope", "eval_qids", "fv_source_qid", "seed", "versions", "inputs", "counts"} <= set(meta)
    assert meta["inputs"]["sampled_trials.json"] == sha256_of(run.snapshot)
    assert meta["canonical"] is True
    for path in (run.stepd_meta, run.artifacts / "fv_global_resid_meta.json"):
        assert load(path)["config"] == config.resolved()


def test_a_second_run_has_the_same_bytes(run: RunPaths, config: Config) -> None:
    again = make_again(config, run_id="again")
    run_pipeline(again)
    other = RunPaths.of(again)
    for name in ("cie_scores.csv", "sampled_trials.json", "step6/eval_summary.json", "step6/eval_trials.jsonl"):
        assert (other.artifacts / name).read_bytes() == (run.artifacts / name).read_bytes(), name


def make_again(config: Config, **changes: Any) -> Config:
    """`config` with top-level settings changed."""
    return dataclasses.replace(copy.deepcopy(config), **changes)


def test_the_same_command_again_changes_nothing(run: RunPaths, config: Config) -> None:
    files = [p for p in run.root.rglob("*") if p.is_file() and p.suffix not in (".log", ".lock")]
    before = {path: (sha256_of(path), path.stat().st_mtime_ns) for path in files if not path.name.startswith(".lock")}
    run_pipeline(config)
    assert {path: (sha256_of(path), path.stat().st_mtime_ns) for path in before} == before


@pytest.mark.slow
def test_naive_and_shared_prefix_runs_agree(config: Config, run: RunPaths) -> None:
    naive = make_again(config, run_id="naive")
    naive.compute.sweep = type(naive.compute.sweep)("naive")
    run_pipeline(naive)
    other = RunPaths.of(naive)
    a, b = (pd.read_csv(paths.artifacts / "cie_scores.csv") for paths in (run, other))
    np.testing.assert_allclose(a["mean_delta_logprob"], b["mean_delta_logprob"], atol=2e-5)
    a, b = (pd.DataFrame(load(paths.step6 / "eval_summary.json")["rows"]) for paths in (run, other))
    np.testing.assert_allclose(a["mean_delta_logprob"], b["mean_delta_logprob"], atol=2e-5)


def test_a_subset_of_relations_gives_the_same_numbers_for_them(config: Config, run: RunPaths) -> None:
    fewer = make_again(config, run_id="fewer")
    fewer.data.qids = ["antonym"]
    run_stepd(fewer)
    alone = pd.read_csv(RunPaths.of(fewer).artifacts / "cie_scores.csv")
    together = pd.read_csv(run.artifacts / "cie_scores.csv").query("q_id == 'antonym'").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, together, check_exact=True)


def test_aie_subset_package_holds_the_subsets_own_ranking(config: Config, run: RunPaths) -> None:
    with_subset = make_again(config)
    with_subset.score.aie_qids = ["antonym", "verb_past"]
    before = sha256_of(run.artifacts / "fv_global_resid.pt")
    run_stepe(with_subset)
    (folder,) = (run.artifacts / "aie").iterdir()
    assert load(folder / "selected_qids.json")["selected_qids"] == ["antonym", "verb_past"]
    cie = pd.read_csv(run.artifacts / "cie_scores.csv").query("q_id != 'country_capital'")
    aie = pd.read_csv(folder / "aie_scores.csv")
    assert (aie["n_qids"] == 2).all()
    expected = cie.groupby(["layer", "head"])["mean_delta_logprob"].mean()
    np.testing.assert_allclose(aie["mean_delta_logprob"], expected, rtol=1e-12)
    best = aie.nlargest(3, "mean_delta_logprob")
    heads = load(folder / "top_heads.json")["heads"]
    assert [(h["layer"], h["head"]) for h in heads] == list(zip(best["layer"], best["head"], strict=True))
    assert {"fv_meta.json", "fv_global_resid.pt"} <= {path.name for path in folder.iterdir()}
    assert sha256_of(run.artifacts / "fv_global_resid.pt") == before


def test_aie_vector_can_be_injected_from_its_file(config: Config, run: RunPaths) -> None:
    with_subset = make_again(config)
    with_subset.score.aie_qids = ["antonym", "country_capital"]
    run_stepe(with_subset)
    package = next(p for p in (run.artifacts / "aie").iterdir() if "capital" in (p / "selected_qids.json").read_text())
    from_file = make_again(config, tag="aie-file")
    from_file.injection.fv = type(from_file.injection.fv)("file")
    from_file.injection.fv_path = str(package / "fv_global_resid.pt")
    folder = run_step6(from_file)
    assert load(folder / "eval_summary.json")["fvs"] == ["file"]
    assert load(folder / "eval_meta.json")["inputs"]["fv_file"] == sha256_of(package / "fv_global_resid.pt")


@pytest.mark.slow
def test_a_tag_keeps_both_results(config: Config, run: RunPaths) -> None:
    before = sha256_of(run.step6 / "eval_summary.json"), sha256_of(run.artifacts / "fv_global_resid.pt")
    tagged = make_again(config, tag="k5")
    tagged.score.k = 5
    run_stepe(tagged)
    folder = run_step6(tagged)
    assert folder == run.artifacts / "step6" / "k5"
    assert load(run.artifacts / "k5" / "fv_global_resid_meta.json")["k"] == 5
    used = load(folder / "eval_meta.json")["inputs"]["fv_qid.pt"]
    assert used == sha256_of(run.artifacts / "k5" / "fv_qid.pt")
    assert (sha256_of(run.step6 / "eval_summary.json"), sha256_of(run.artifacts / "fv_global_resid.pt")) == before


@pytest.mark.parametrize(
    ("changes", "fvs", "eval_qids"),
    [
        ({"injection.fv": "global"}, ["global"], TINY_QIDS),
        (
            {"injection.fv": "global", "eval_scope.mode": "qid_list", "eval_scope.qids": ["antonym"]},
            ["global"],
            ["antonym"],
        ),
        ({"injection.fv": "qid", "injection.fv_source_qid": "antonym"}, ["antonym"], ["antonym"]),
        (
            {"injection.fv": "qid", "injection.fv_source_qid": "antonym", "eval_scope.mode": "all_qids"},
            ["antonym"],
            TINY_QIDS,
        ),
        ({"injection.fv": "all_qids"}, TINY_QIDS, TINY_QIDS),
    ],
)
def test_scope_decides_the_relations(
    run: RunPaths, config: Config, changes: Settings, fvs: list[str], eval_qids: list[str]
) -> None:
    scoped = make_again(config, tag=f"scope{len(changes)}{len(fvs)}{len(eval_qids)}")
    other = configured(changes)
    scoped.injection, scoped.eval_scope = other.injection, other.eval_scope
    scoped.injection.layer = [1]
    summary = load(run_step6(scoped) / "eval_summary.json")
    assert (summary["fvs"], summary["eval_qids"]) == (fvs, eval_qids)


@pytest.mark.parametrize("changes", [{}, {"eval_scope.mode": "in_domain"}])
def test_by_default_own_vectors_go_into_their_own_prompts_the_diagonal_of_the_matrix(
    run: RunPaths, config: Config, changes: Settings
) -> None:
    diagonal = make_again(config, tag=f"diagonal{len(changes)}")
    default = configured(changes)
    diagonal.injection.fv, diagonal.eval_scope = default.injection.fv, default.eval_scope
    rows = load(run_step6(diagonal) / "eval_summary.json")["rows"]
    assert {(row["fv"], row["eval_qid"]) for row in rows} == {(q, q) for q in TINY_QIDS}
    full = {
        (r["fv"], r["eval_qid"], r["layer"], r["alpha"]): r["mean_delta_logprob"]
        for r in load(run.step6 / "eval_summary.json")["rows"]
    }
    for row in rows:
        same = full[row["fv"], row["eval_qid"], row["layer"], row["alpha"]]
        assert row["mean_delta_logprob"] == pytest.approx(same, abs=2e-5)


def test_n_eval_takes_the_first_trials_of_each_relation(run: RunPaths, config: Config) -> None:
    fewer = make_again(config, tag="n2")
    fewer.injection.n_eval = 2
    assert {row["n_trials"] for row in load(run_step6(fewer) / "eval_summary.json")["rows"]} == {2}


def test_a_replayed_snapshot_gives_the_same_scores(run: RunPaths, config: Config, tiny_run: TinyRun) -> None:
    replay = tiny_run({"data.fixed_trials_path": run.snapshot}, run_id="replay")
    run_stepd(replay)
    scores = RunPaths.of(replay).artifacts / "cie_scores.csv"
    assert scores.read_bytes() == (run.artifacts / "cie_scores.csv").read_bytes()
