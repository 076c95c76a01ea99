"""Runs whose right answer is known: one head carries the relation, or there is nothing to find."""

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import DEFAULT_CSV, MakeConfig
from tiny_runs import TinyRunIn
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.null_relations import N_EVAL, SETTINGS, null_run
from fv.evaluation.tables import contrasts_table
from fv.files import read_json
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline

PLANTED = Head(0, 1)


def words_of(column: str, *q_ids: str) -> list[str]:
    with DEFAULT_CSV.open(encoding="utf-8", newline="") as file:
        return list(dict.fromkeys(row[column] for row in csv.DictReader(file) if row["q_id"] in q_ids))


@pytest.fixture(scope="module")
def planted_folder(tiny_llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama in which one head counts the demonstrations that say " yes" and speaks for " yes"."""
    folder = tmp_path_factory.mktemp("planted")
    tokenizer = AutoTokenizer.from_pretrained(tiny_llama_folder)
    yes, no = (tokenizer.encode(text, add_special_tokens=False)[0] for text in (" yes", " no"))
    model = AutoModelForCausalLM.from_pretrained(tiny_llama_folder)
    attention, head_dim, coordinate = model.model.layers[PLANTED.layer].self_attn, 12, 7
    own = slice(PLANTED.head * head_dim, (PLANTED.head + 1) * head_dim)
    group = (PLANTED.head // 2) * head_dim  # two query heads share a key-value head
    with torch.no_grad():
        # One coordinate of the embedding says which of the two answers a token is.
        model.model.embed_tokens.weight[:, coordinate] = 0
        model.model.embed_tokens.weight[yes, coordinate] = 5
        model.model.embed_tokens.weight[no, coordinate] = -5
        # The head looks everywhere alike, reads that coordinate, and writes towards " yes".
        attention.q_proj.weight[own] = 0
        attention.q_proj.bias[own] = 0
        attention.v_proj.weight[group] = 0
        attention.v_proj.weight[group, coordinate] = 1
        attention.o_proj.weight[:, own] = 0
        towards = model.lm_head.weight[yes] - model.lm_head.weight[no]
        attention.o_proj.weight[:, own.start] = 40 * towards / towards.norm()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_head_that_carries_the_relation_is_found_with_certainty(
    tiny_run_in: TinyRunIn, planted_folder: Path, tmp_path: Path
) -> None:
    words = words_of("exA", "antonym", "verb_past")
    answers = ["no", *["yes"] * (len(words) - 1)]  # one other answer, so that there is a wrong one to show
    lines = [f"{q},{word},{answer}" for q in ("one", "two") for word, answer in zip(words, answers, strict=True)]
    (tmp_path / "planted.csv").write_text("\n".join(["q_id,exA,exB", *lines]), encoding="utf-8")
    config = tiny_run_in(tmp_path)(
        {
            "model.path": planted_folder,
            "model.name": "planted",
            "data.relation_csv_path": tmp_path / "planted.csv",
            "data.n_demos": 5,
            "data.n_trials_per_q": 12,
            "data.n_eval_trials_per_q": 30,
            "score.k": 1,
            "injection.fv": "all_qids",
            "eval_scope.mode": "all_qids",
            "compute.selfcheck": True,
        }
    )
    step6 = run_pipeline(config)
    paths = RunPaths.of(config)
    heads = pd.read_csv(paths.analysis("ranking_stability") / "head_stability.csv")
    first = heads[heads["rank"] == 1]
    assert set(first["ranking"]) == {"global", "one", "two"}
    assert first[["layer", "head"]].values.tolist() == [list(PLANTED)] * 3
    assert (first["inclusion"] == 1.0).all()
    for report in read_json(paths.analysis("ranking_stability") / "ranking_stability.json")["rankings"].values():
        assert report["lowest_inclusion"] == 1.0 and report["gap"]["ci_low"] > 0
        assert report["split_half"]["overlap_apart"] == 1.0
    stats = pd.read_csv(paths.artifacts / "cie_stats.csv")
    mine = stats[(stats["layer"] == PLANTED.layer) & (stats["head"] == PLANTED.head)]
    assert (mine["ci_low"] > 0).all() and (mine["p_positive"] == 1.0).all()
    # Its vector works where random ones do not, and without it the few-shot prompt loses what it gave.
    contrasts = pd.read_csv(step6 / "contrasts.csv")
    contrasts = contrasts[(contrasts["subset"] == "all") & (contrasts["metric"] == "logprob")]
    own: Any = contrasts[contrasts["fv"] == contrasts["eval_qid"]].set_index(["condition", "minus"])
    assert (own.loc[("fv", "random_vector"), "ci_low"] > 0).all()
    assert (own.loc[("fv", "corrupted_prompts"), "ci_low"] > 0).all()
    assert (own.loc[("ablated_top_heads", "ablated_random_heads"), "ci_high"] < 0).all()


N_SHUFFLED = 60


@pytest.mark.slow
def test_intervals_of_shuffled_relations_cover_zero(make_config: MakeConfig, tiny_llama: LanguageModel) -> None:
    config = make_config(
        *(*SETTINGS, f"data.n_eval_trials_per_q={N_EVAL}", "stats.n_resamples=500"),
        *("evaluation.conditions.random_vector.draws=6", "evaluation.controls.weaker=[0.25]"),
    )
    runs = (null_run(tiny_llama, config, seed) for seed in range(N_SHUFFLED))
    found = pd.concat([contrasts_table(run.rows, run.contrasts, config.stats, run.evaluation.seed) for run in runs])
    found = found[(found["subset"] == "all") & found["metric"].isin(["logprob", "top1", "exact_match"])]
    covered = (found["ci_low"] <= 0) & (found["ci_high"] >= 0)
    shares: Any = covered.groupby([found["metric"], found["condition"] + " - " + found["minus"]]).mean()
    assert len(shares) == 3 * 11
    # Of 60, two standard errors of .95 are 5.6 points: no contrast misses zero more often than it says, none never.
    assert shares.min() >= 0.95 - 0.056, shares
    # Each end is the farther of two, and intervals hold refits: they are rather too wide than too narrow.
    assert shares["logprob"].mean() >= 0.93
