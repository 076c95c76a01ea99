"""Runs whose right answer is known: one head carries the relation, or there is nothing to find."""

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import DEFAULT_CSV, MakeConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from fv.config import Config
from fv.data.relations import Pair, Relation, Relations
from fv.data.sampling import sample_snapshot
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.cells import grid
from fv.evaluation.grid import Grid, eval_parts, evaluate_vectors, trials_of
from fv.evaluation.held_out import HeldOutRun
from fv.evaluation.selection import choose_cells
from fv.evaluation.tables import contrasts_table
from fv.files import read_json
from fv.heads.ranking import Ranking, heads_to_sweep
from fv.heads.relation_run import RelationRuns
from fv.heads.relations import measure
from fv.interventions.engine import Head
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.units import NO_UNITS
from fv.vectors.function_vector import function_vector

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
    make_config: MakeConfig, planted_folder: Path, tmp_path: Path
) -> None:
    words = words_of("exA", "antonym", "verb_past")
    answers = ["no", *["yes"] * (len(words) - 1)]  # one other answer, so that there is a wrong one to show
    lines = [f"{q},{word},{answer}" for q in ("one", "two") for word, answer in zip(words, answers, strict=True)]
    (tmp_path / "planted.csv").write_text("\n".join(["q_id,exA,exB", *lines]), encoding="utf-8")
    config = make_config(
        *("model=local", f"model.path={planted_folder}", "model.name=planted", "run_id=r", "compute.threads=1"),
        *(f"data.relation_csv_path={tmp_path / 'planted.csv'}", f"results_dir={tmp_path}", "data.n_demos=5"),
        *("score.k=1", "data.n_trials_per_q=12", "data.n_eval_trials_per_q=30", "injection.fv=all_qids"),
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
    own = contrasts[contrasts["fv"] == contrasts["eval_qid"]].set_index(["condition", "minus"])
    assert (own.loc[("fv", "random_vector"), "ci_low"] > 0).all()
    assert (own.loc[("fv", "corrupted_prompts"), "ci_low"] > 0).all()
    assert (own.loc[("ablated_top_heads", "ablated_random_heads"), "ci_high"] < 0).all()


def shuffled_relation(seed: int) -> Relations:
    """Words paired at random: no input says anything about its output."""
    words = words_of("exB", "antonym", "verb_past")
    rng = np.random.default_rng(seed)
    pairs = tuple(Pair(*pair) for pair in zip(rng.permutation(words)[:150], rng.permutation(words)[:150], strict=True))
    return Relations(Path("shuffled"), "0" * 64, (Relation("null", pairs, 0, 0),))


def null_contrasts(config: Config, lm: LanguageModel, seed: int) -> pd.DataFrame:
    """What the pipeline says of a shuffled relation, without its files."""
    config.seed = seed
    snapshot = sample_snapshot(shuffled_relation(seed), config.data, seed, lm)
    engine = make_engine(lm, "auto", config.compute.max_rows)
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)
    measured = measure(RelationRuns(lm, snapshot, heads, engine, config.score, seed), config.stats, "null")
    ranking = Ranking("mean_delta_logprob", config.score.k)
    vector = function_vector(lm, measured["null"], ranking.k)
    cells = grid(config.injection, lm.n_layers)
    parts = eval_parts(snapshot, ["null"], None, config.evaluation.dev_fraction, seed)
    trials = trials_of(lm, snapshot, ["null"], None, parts)
    rows = evaluate_vectors("null", engine, Grid([(vector, ["null"])], trials, cells))
    unit_of_alpha = config.injection.alpha_unit
    candidates = CandidatesOfRelations(config.evaluation, unit_of_alpha, seed, lm, measured, ranking, cells)
    run = HeldOutRun(engine, snapshot, candidates, {"null": vector}, choose_cells(rows), parts)
    found = run.run(NO_UNITS)
    return contrasts_table(pd.concat(found.trials, ignore_index=True), found.contrasts, config.stats, seed)


N_SHUFFLED = 60


@pytest.mark.slow
def test_intervals_of_shuffled_relations_cover_zero(make_config: MakeConfig, tiny_llama: LanguageModel) -> None:
    config = make_config(
        *("data.n_trials_per_q=8", "data.n_demos=3", "data.n_eval_trials_per_q=28", "score.k=4"),
        *("stats.n_resamples=500", "analysis.cost.n_texts=0", "evaluation.conditions.random_vectors.draws=6"),
        *("evaluation.controls.weaker=[0.25]", "compute.threads=1"),
    )
    found = pd.concat([null_contrasts(config, tiny_llama, seed) for seed in range(N_SHUFFLED)], ignore_index=True)
    found = found[(found["subset"] == "all") & found["metric"].isin(["logprob", "top1", "exact_match"])]
    covered = (found["ci_low"] <= 0) & (found["ci_high"] >= 0)
    shares = covered.groupby([found["metric"], found["condition"] + " - " + found["minus"]]).mean()
    assert len(shares) == 3 * 11
    # Of 60, two standard errors of .95 are 5.6 points: no contrast misses zero more often than it says, none never.
    assert shares.min() >= 0.95 - 0.056, shares
    assert shares["logprob"].mean() == pytest.approx(0.95, abs=0.03)
