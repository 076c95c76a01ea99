"""`injection.fv=aie_qid`: the heads of the AIE with each relation's own means, as in Todd et al. (ICLR 2024)."""

import pandas as pd
import pytest
import torch
from conftest import TINY_QIDS
from tiny_runs import TinyRun, TinyRunIn

from fv.errors import ArtifactError, ConfigError
from fv.files import read_json, read_torch
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.runs.records import StepDRecord, read_record
from fv.runs.results import StepdResults
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepe import run_stepe

K = 3


@pytest.fixture(scope="module")
def tiny_run(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    return tiny_run_in(tmp_path_factory.mktemp("results")).but(
        {
            "stats.n_resamples": 100,
            "analysis.cost.n_texts": 0,
            "evaluation.conditions.layer_mean.enabled": False,
            "evaluation.conditions.few_shot_corrupted.enabled": False,
            "data.n_trials_per_q": 4,
            "data.n_demos": 3,
            "data.n_eval_trials_per_q": 6,
            "score.k": K,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.refits.draws": 2,
            "evaluation.conditions.random_heads.draws": 1,
        }
    )


@pytest.fixture(scope="module")
def paths(tiny_run: TinyRun) -> RunPaths:
    config = tiny_run({"injection.fv": ["all_qids", "aie_qid"]})
    run_pipeline(config)
    return RunPaths.of(config)


def top_of(scores: pd.DataFrame) -> list[tuple[int, int]]:
    means = scores.groupby(["layer", "head"])["mean_delta_logprob"].mean().sort_values(ascending=False)
    return [(int(layer), int(head)) for layer, head in means.index[:K]]


def written(lm: LanguageModel, mean: torch.Tensor, heads: list[tuple[int, int]]) -> torch.Tensor:
    """What heads write, by their slices of the output projections themselves."""
    d = lm.head_dim
    weights = {layer: lm.model.model.layers[layer].self_attn.o_proj.weight.double() for layer, _ in heads}
    parts = [weights[layer][:, head * d : (head + 1) * d] @ mean[layer, head].double() for layer, head in heads]
    return torch.stack(parts).sum(0)


@pytest.mark.slow
def test_the_papers_vector_is_the_relations_means_in_the_heads_of_the_aie(
    paths: RunPaths, tiny_llama: LanguageModel
) -> None:
    heads = top_of(pd.read_csv(paths.artifacts / "cie_scores.csv"))
    stored = read_torch(paths.stepe / "fv_aie_qid.pt")
    assert sorted(stored) == TINY_QIDS
    for q_id in TINY_QIDS:
        assert stored[q_id]["heads"] == heads and stored[q_id]["k"] == K
        mean = read_torch(paths.qid_mean(q_id))["clean_mean"]
        torch.testing.assert_close(
            stored[q_id]["vector"].double(), written(tiny_llama, mean, heads), atol=1e-5, rtol=1e-5
        )


@pytest.mark.slow
def test_own_and_the_papers_vectors_stand_side_by_side_each_with_its_controls(paths: RunPaths) -> None:
    summary = read_json(paths.step6 / "eval_summary.json")
    assert summary["fvs"] == sorted([*TINY_QIDS, *(f"{q_id}@aie" for q_id in TINY_QIDS)])
    # Both are evaluated on their own relation.
    pairs = {(row["fv"], row["eval_qid"]) for row in summary["rows"]}
    assert pairs == {(f"{q_id}{kind}", q_id) for q_id in TINY_QIDS for kind in ("", "@aie")}
    minus = {(row["fv"], row["minus"]) for row in summary["contrasts"] if row["condition"] == "fv"}
    for q_id in TINY_QIDS:
        for control in ("random_vector", "random_heads", "corrupted_prompts", "other_relation"):
            assert (f"{q_id}@aie", control) in minus, control
    # On its own relation alone, a vector cannot do better there than elsewhere.
    assert summary["transfer"]["dominance"] == []


@pytest.mark.slow
def test_a_relation_can_be_left_out_of_the_aie_that_chooses_its_heads(tiny_run: TinyRun, paths: RunPaths) -> None:
    run_stepe(tiny_run({"score.aie_leave_one_out": True}, tag="loo"))
    cie = pd.read_csv(paths.artifacts / "cie_scores.csv")
    stored = read_torch(paths.artifacts / "loo" / "fv_aie_qid.pt")
    for q_id in TINY_QIDS:
        assert stored[q_id]["heads"] == top_of(cie[cie["q_id"] != q_id])
    with pytest.raises(ConfigError, match=r"Leaving antonym out of its own AIE leaves no relation"):
        alone = tiny_run({"data.qids": ["antonym"], "score.aie_leave_one_out": True}, run_id="alone")
        run_pipeline(alone)


@pytest.mark.slow
def test_the_papers_vector_of_several_k_is_made_of_the_aies_ranking(
    tiny_run: TinyRun, paths: RunPaths, tiny_llama: LanguageModel
) -> None:
    several = {"tag": "ks", "injection.fv": "aie_qid", "injection.fv_source_qid": "antonym", "injection.k": [1, 3]}
    run_stepe(tiny_run(tag="ks"))
    summary = read_json(run_step6(tiny_run(several)) / "eval_summary.json")
    assert summary["fvs"] == ["antonym@aie@k1", "antonym@aie@k3"]
    norms = {row["fv"]: row["norm"] for row in summary["rows"]}
    mean = read_torch(paths.qid_mean("antonym"))["clean_mean"]
    best = top_of(pd.read_csv(paths.artifacts / "cie_scores.csv"))[:1]
    assert norms["antonym@aie@k1"] == pytest.approx(float(written(tiny_llama, mean, best).norm()), rel=1e-5)


def test_a_missing_file_of_vectors_says_to_run_stepe_again(tiny_run: TinyRun, paths: RunPaths) -> None:
    run_stepe(tiny_run(tag="short"))
    (paths.artifacts / "short" / "fv_aie_qid.pt").unlink()
    with pytest.raises(ArtifactError, match=r"fv_aie_qid\.pt is missing.*Run StepE with overwrite=true"):
        run_step6(tiny_run({"injection.fv": "aie_qid"}, tag="short"))


def test_norms_are_told_against_the_residual_streams(paths: RunPaths, tiny_llama: LanguageModel) -> None:
    stepd = StepdResults.read(paths, read_record(paths.stepd_meta, StepDRecord))
    fit = [t for t in stepd.snapshot.trials if (t.q_id, t.split) == ("antonym", "fit")]
    streams = []
    for trial in fit:
        ids = torch.tensor([tiny_llama.encode(trial.zero_shot_prompt_str, False)])
        with torch.no_grad():
            hidden = tiny_llama.model(ids, output_hidden_states=True).hidden_states
        streams.append([float(h[0, -1].norm()) for h in hidden[1:-1]])  # the last one is normalised
    due = torch.tensor(streams).mean(0)
    norm = stepd.effects.means["antonym"].residual_norm
    torch.testing.assert_close(norm[:-1], due, rtol=1e-5, atol=0)
    for row in read_json(paths.step6 / "eval_summary.json")["rows"]:
        if row["eval_qid"] == "antonym":
            assert row["relative_norm"] == pytest.approx(row["norm"] / float(norm[row["layer"]]), rel=1e-9)


@pytest.mark.slow
def test_a_vector_can_be_scaled_to_the_residual_stream(tiny_run: TinyRun, paths: RunPaths) -> None:
    """The same strengths asked for in the other unit give the same answers."""
    norms = StepdResults.read(paths, read_record(paths.stepd_meta, StepDRecord)).effects.means["antonym"].residual_norm
    run_stepe(tiny_run(tag="unit"))
    one = {"tag": "unit", "injection.fv": "qid", "injection.fv_source_qid": "antonym", "injection.layer": 1}
    unit = run_step6(tiny_run(one, {"injection.alpha": [0.1, 0.2], "injection.alpha_unit": "residual"}))
    rows = pd.DataFrame(read_json(unit / "eval_summary.json")["rows"])
    run_stepe(tiny_run(tag="plain"))
    factors = [alpha * float(norms[1]) / float(rows["norm"].iloc[0]) for alpha in (0.1, 0.2)]
    plain = run_step6(tiny_run(one, {"injection.alpha": factors}, tag="plain"))
    expected = pd.DataFrame(read_json(plain / "eval_summary.json")["rows"])
    assert rows["alpha"].tolist() == [0.1, 0.2]
    assert rows["mean_delta_logprob"].tolist() == pytest.approx(expected["mean_delta_logprob"].tolist(), abs=2e-5)
    held_out = [pd.read_csv(folder / "held_out.csv", keep_default_na=False) for folder in (unit, plain)]
    own = [table[(table["condition"] == "fv") & (table["metric"] == "logprob")]["mean"].iloc[0] for table in held_out]
    assert own[0] == pytest.approx(own[1], abs=2e-5)
    assert read_json(unit / "eval_summary.json")["alpha_unit"] == "residual"
