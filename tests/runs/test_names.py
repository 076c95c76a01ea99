"""Relations called like something else: like another vector, another ranking, a folder, a number, or one another."""

import csv
import io
import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import DEFAULT_CSV, loaded
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny_runs import TinyRun, TinyRunIn

from fv.config import Config
from fv.errors import ArtifactError
from fv.evaluation.evaluation import GridResults
from fv.files import read_json, read_jsonl
from fv.interventions.engine import Cell
from fv.models.language_model import LanguageModel
from fv.progress import progress_bar
from fv.report.terminal import print_report
from fv.runs.injected_vectors import vectors_of
from fv.runs.live_run import LiveRun
from fv.runs.paths import RunPaths
from fv.runs.records import StepDRecord, read_record
from fv.runs.results import StepdResults
from fv.steps.seeds import gather_seeds
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe
from fv.vectors.names import ranking_name, source_name, vector_name
from fv.work.driver import SERIAL
from fv.work.store import Arrays, Keyed, UnitName, UnitStore

OWN_NAMES = ["010", "10", "a", "a:b", "a:b:c", "a[/b]", "aie", "cells", "fv", "units"]
"""Relations whose vectors are called as they are."""
MARKED = {q_id: f"{q_id}@qid" for q_id in ("a@aie", "a@k1", "file", "global")}
NAMES = {**{q_id: q_id for q_id in OWN_NAMES}, **MARKED}
K, N_EVAL, LAYERS = 2, 4, (0, 2)

plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="@\0"), min_size=1, max_size=6)
parts = st.sampled_from(["a", "global", "file", "@aie", "@qid", "@k", "1", "5", "@", "\n", ":"])
hostile = st.lists(parts, min_size=1, max_size=5).map("".join)


@given(st.sets(hostile | plain, max_size=8), st.sets(st.integers(1, 200), max_size=3))
def test_vectors_of_any_relations_kinds_and_ks_have_names_of_their_own(qids: set[str], ks: set[int]) -> None:
    sources = [("global", None), ("file", None), *itertools.product(("qid", "aie_qid"), qids)]
    which = list(itertools.product(sources, [None, *ks]))
    assert len({vector_name(source_name(*source), k) for source, k in which}) == len(which)
    assert len({ranking_name(q_id) for q_id in (None, *qids)}) == len(qids) + 1


@given(hostile | plain, st.sampled_from(["qid", "aie_qid"]), st.none() | st.integers(1, 200))
def test_a_name_is_read_back_from_its_end(q_id: str, kind: str, k: int | None) -> None:
    read = re.fullmatch(r"(.*?)(@qid)?(@aie)?(@k[0-9]+)?", vector_name(source_name(kind, q_id), k), re.DOTALL)
    assert read is not None
    assert read[1] == q_id and bool(read[3]) == (kind == "aie_qid") and read[4] == (None if k is None else f"@k{k}")


@given(plain.filter(lambda q_id: q_id not in ("global", "file")) | st.sampled_from(OWN_NAMES))
def test_ordinary_relations_keep_their_names(q_id: str) -> None:
    assert source_name("qid", q_id) == ranking_name(q_id) == vector_name(q_id, None) == q_id
    assert source_name("aie_qid", q_id) == f"{q_id}@aie" and vector_name(q_id, 5) == f"{q_id}@k5"
    assert ranking_name(None) == source_name("global", None) == "global"


@pytest.fixture(scope="module")
def run_in_names(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    folder = tmp_path_factory.mktemp("names")
    with DEFAULT_CSV.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    renamed = dict(zip(sorted({row["q_id"] for row in rows}), NAMES, strict=False))
    with (folder / "named.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["q_id", "exA", "exB"])
        writer.writerows([renamed[row["q_id"]], row["exA"], row["exB"]] for row in rows if row["q_id"] in renamed)
    torch.save(torch.linspace(-1, 1, 40), folder / "some.pt")
    return tiny_run_in(folder / "results").but(
        {
            "stats.n_resamples": 100,
            "analysis.cost.n_texts": 0,
            "score.k": K,
            "data.relation_csv_path": folder / "named.csv",
            "data.name": "named",
            "data.n_trials_per_q": 3,
            "data.n_demos": 2,
            "data.n_eval_trials_per_q": N_EVAL,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.refits.draws": 2,
            "evaluation.conditions.random_heads.draws": 1,
            "evaluation.controls.weaker": [],
            "injection.layer": list(LAYERS),
            "injection.fv_path": folder / "some.pt",
        }
    )


def made(run: TinyRun, seed: int) -> Config:
    config = run({"injection.fv": ["global", "all_qids", "aie_qid", "file"]}, seed=seed, run_id=f"s{seed}")
    run_stepd(config)
    run_stepe(config)
    run_step6(config)
    return config


@pytest.fixture(scope="module")
def config(run_in_names: TinyRun) -> Config:
    return made(run_in_names, 1)


@pytest.fixture(scope="module")
def paths(config: Config) -> RunPaths:
    return RunPaths.of(config)


@pytest.fixture(scope="module")
def stepd(paths: RunPaths) -> StepdResults:
    return StepdResults.read(paths, read_record(paths.stepd_meta, StepDRecord))


@pytest.fixture(scope="module")
def cie(paths: RunPaths) -> pd.DataFrame:
    return pd.read_csv(paths.artifacts / "cie_scores.csv", dtype={"q_id": str}, keep_default_na=False)


def ranked(cie: pd.DataFrame, q_id: str | None) -> list[tuple[int, int]]:
    """All heads by hand from the CIE of one relation, or from its mean over all."""
    own = cie if q_id is None else cie[cie["q_id"] == q_id]
    means = own.groupby(["layer", "head"])["mean_delta_logprob"].mean().sort_values(ascending=False, kind="stable")
    return [(int(layer), int(head)) for layer, head in means.index]


def written(lm: LanguageModel, mean: torch.Tensor, heads: list[tuple[int, int]]) -> torch.Tensor:
    """What heads write, by their slices of the output projections themselves."""
    d, layers = lm.head_dim, lm.model.model.layers
    parts = [
        layers[layer].self_attn.o_proj.weight.double()[:, head * d : (head + 1) * d] @ mean[layer, head].double()
        for layer, head in heads
    ]
    return torch.stack(parts).sum(0)


def norms_by_hand(lm: LanguageModel, stepd: StepdResults, cie: pd.DataFrame, k: int) -> dict[str, float]:
    """{what a vector is to be called, without its k: its norm}."""
    every = torch.stack([means.clean.double() for means in stepd.effects.means.values()]).mean(0)
    found = {"global": written(lm, every, ranked(cie, None)[:k])}
    for q_id, name in NAMES.items():
        found[name] = written(lm, stepd.effects.means[q_id].clean, ranked(cie, q_id)[:k])
        found[f"{name}@aie"] = written(lm, stepd.effects.means[q_id].clean, ranked(cie, None)[:k])
    return {name: float(vector.norm()) for name, vector in found.items()}


@pytest.mark.slow
def test_every_relation_and_the_aie_have_their_own_ranking(paths: RunPaths, cie: pd.DataFrame) -> None:
    folder = paths.analysis("ranking_stability")
    stability = pd.read_csv(folder / "head_stability.csv", dtype={"ranking": str})
    reports = read_json(folder / "ranking_stability.json")["rankings"]
    assert set(stability["ranking"]) == set(reports) == {"global", *NAMES.values()}
    for name, q_id in {"global": None, **{name: q_id for q_id, name in NAMES.items()}}.items():
        own = stability[stability["ranking"] == name].sort_values("rank")
        assert list(zip(own["layer"], own["head"], strict=True)) == ranked(cie, q_id), name
        assert own["inclusion"].sum() == pytest.approx(K)


@pytest.mark.slow
def test_every_vector_has_its_own_rows_and_is_made_of_its_own_heads(
    paths: RunPaths, stepd: StepdResults, cie: pd.DataFrame, tiny_llama: LanguageModel
) -> None:
    due = {**norms_by_hand(tiny_llama, stepd, cie, K), "file": float(torch.linspace(-1, 1, 40).double().norm())}
    rows = pd.DataFrame(read_jsonl(paths.step6 / "eval_trials.jsonl"))
    for (fv, q_id), own in rows.groupby(["fv", "eval_qid"]):
        assert len(own) == N_EVAL * len(LAYERS), (fv, q_id)
        assert own["norm"].to_numpy() == pytest.approx(due[str(fv)], rel=1e-5), (fv, q_id)
    own_prompts = {(f"{name}{kind}", q_id) for q_id, name in NAMES.items() for kind in ("", "@aie")}
    pairs = {*itertools.product(["global", "file"], NAMES), *own_prompts}
    assert set(zip(rows["fv"], rows["eval_qid"], strict=True)) == pairs
    summary = read_json(paths.step6 / "eval_summary.json")
    assert {(fv, q_id) for fv, on in summary["matrix"].items() for q_id in on} == pairs


@pytest.mark.slow
def test_every_vector_is_tested_beside_controls_of_its_own(paths: RunPaths) -> None:
    summary = read_json(paths.step6 / "eval_summary.json")
    assert len(summary["relations"]) == len(NAMES)
    draws = pd.DataFrame(read_jsonl(paths.step6 / "held_out_trials.jsonl")).groupby(["fv", "eval_qid", "condition"])
    counts: Any = draws["draw"].nunique()
    for q_id, name in NAMES.items():
        for fv in (name, f"{name}@aie"):
            own = counts[fv, q_id]
            assert (own["fv"], own["random_vector"], own["corrupted_prompts"]) == (1, 2, 1), fv
            assert own["other_relation"] == len(NAMES) - 1 and own["ablated_top_heads"] == 1, fv
        assert set(counts["global", q_id].index) >= {"fv", "random_vector", "ablated_top_heads"}
        assert set(counts["file", q_id].index) == {"fv", "random_vector", "few_shot_corrupted_fv"}
    cosines = pd.read_csv(paths.analysis("transfer") / "fv_cosines.csv", header=None, dtype=str)
    assert len(set(cosines.iloc[1:, 0])) == len(cosines) - 1 == 2 * len(NAMES) + 2
    diagonal = np.diag(cosines.iloc[1:, 1:].to_numpy(dtype=float))
    assert diagonal == pytest.approx(np.ones(len(diagonal)))


@pytest.mark.slow
def test_a_relations_unit_depends_on_its_own_trials_alone(config: Config, paths: RunPaths, stepd: StepdResults) -> None:
    asked: dict[UnitName, Any] = {}

    class Watched(UnitStore):
        def find(self, unit: Keyed) -> Arrays | None:
            asked[unit.name] = unit.made_from
            return super().find(unit)

    rows = pd.DataFrame(read_jsonl(paths.step6 / "eval_trials.jsonl")).astype({"k": "Int64"})
    rows = rows[rows["fv"].isin(NAMES.values()) & rows["eval_qid"].isin(["a", "a:b"]) & (rows["layer"] == 0)]
    lm = loaded(config)
    parts = dict(zip(rows["trial_id"], rows["part"], strict=True))
    run = replace(LiveRun.of(config, lambda _: lm), paths=paths)
    found = GridResults(rows, vectors_of(config.injection, run.ranking, paths, lm, stepd), [Cell(0, 1.0)], parts)
    SERIAL.run(run.evaluation.held_out_flow(found), "Step6", Watched(None, None))
    for q_id in ("a", "a:b"):
        prompts = {tuple(lm.encode(trial.zero_shot_prompt_str, False)) for trial in stepd.snapshot.of(q_id, "eval")}
        _, test, _ = asked[UnitName("held_out", q_id, "own")]
        assert {tuple(token_ids) for token_ids, *_ in test["zero_shot"]} <= prompts


@pytest.mark.slow
def test_the_report_names_every_vector_with_its_own_heads(
    paths: RunPaths, cie: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    print_report(paths.step6)
    told = " ".join(capsys.readouterr().out.split())
    heads = {q_id: " ".join(f"{layer}.{head}" for layer, head in ranked(cie, q_id)[:K]) for q_id in (None, *NAMES)}
    for q_id, name in NAMES.items():
        assert f" {name} {heads[q_id]}" in told, name
        assert f" {name}@aie {heads[None]}" in told, name
    assert f" global {heads[None]}" in told


def test_relations_that_would_share_a_file_are_refused_before_anything_is_thrown_away(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = run_stepd(tiny_run({"data.qids": ["antonym"]}))
    lines = [f"{q_id},in{i},out{i}" for q_id in ("Same", "same") for i in range(20)]
    (tmp_path / "case.csv").write_text("\n".join(["q_id,exA,exB", *lines]), encoding="utf-8")
    twins = tiny_run({"data.relation_csv_path": tmp_path / "case.csv"}, overwrite=True)
    monkeypatch.setattr("fv.runs.paths.ignores_case", lambda _: True)
    with pytest.raises(ArtifactError, match="Same and same"):
        run_stepd(twins)
    assert (old / "artifacts" / "cie_scores.csv").exists()


@pytest.mark.parametrize("q_id", ["a[/b]", "[bold]"])
def test_a_progress_bar_shows_a_relations_name_as_it_is(q_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr("fv.progress.console", terminal)
    with progress_bar("StepD", 1) as (advance, rename):
        rename(q_id)
        advance(1)
    assert isinstance(terminal.file, io.StringIO) and f"StepD {q_id}" in terminal.file.getvalue()


@pytest.mark.slow
def test_vectors_of_several_k_have_their_own_rows(
    run_in_names: TinyRun, paths: RunPaths, stepd: StepdResults, cie: pd.DataFrame
) -> None:
    vectors = {"injection.fv": ["global", "all_qids", "aie_qid"], "injection.fv_path": None, "injection.k": [1, 2]}
    scope = {"eval_scope.mode": "qid_list", "eval_scope.qids": ["a", "a@k1"]}
    fewer = {"evaluation.conditions.ablated_heads.enabled": False}
    config = run_in_names(vectors, scope, fewer, seed=1, run_id="s1", tag="ks")
    folder = run_step6(config)
    rows = pd.DataFrame(read_jsonl(folder / "eval_trials.jsonl"))
    lm = loaded(config)
    due = {f"{name}@k{k}": norm for k in (1, 2) for name, norm in norms_by_hand(lm, stepd, cie, k).items()}
    assert set(rows["fv"]) == set(due)
    for fv, its in rows.groupby("fv"):
        assert len(its) == 2 * N_EVAL * len(LAYERS), fv
        assert its["norm"].to_numpy() == pytest.approx(due[str(fv)], rel=1e-5), fv
    held_out = pd.read_csv(folder / "held_out.csv", keep_default_na=False)
    assert set(held_out.loc[held_out["condition"] == "fv", "fv"]) == set(due)


@pytest.mark.slow
def test_every_relation_and_the_aie_are_averaged_over_seeds_by_themselves(
    run_in_names: TinyRun, config: Config, cie: pd.DataFrame
) -> None:
    other = made(run_in_names, 2)
    folder = gather_seeds([RunPaths.of(one).step6 for one in (config, other)])
    heads = pd.read_csv(folder / "top_heads.csv", dtype={"ranking": str})
    assert heads.groupby("ranking")["n_runs"].sum().to_dict() == dict.fromkeys(["global", *NAMES.values()], 2 * K)
    held_out = pd.read_csv(folder / "held_out.csv", keep_default_na=False, dtype=str)
    own = held_out[(held_out["condition"] == "fv") & (held_out["subset"] == "all")]
    own = own[own["metric"] == "delta_logprob"]
    assert set(own["eval_qid"]) == set(NAMES) and set(own["n_seeds"]) == {"2"}
    assert len(own) == 4 * len(NAMES)


@pytest.mark.slow
def test_relations_called_like_numbers_are_averaged_over_seeds_under_their_names(
    run_in_names: TinyRun,
) -> None:
    vectors = {"injection.fv": "all_qids", "injection.fv_path": None, "injection.layer": 0}
    scope = {"data.qids": ["010", "10"], "eval_scope.mode": "all_qids"}
    off = ("layer_mean", "few_shot_corrupted", "ablated_heads")
    run = run_in_names.but(vectors, scope, {f"evaluation.conditions.{name}.enabled": False for name in off})
    folders = []
    for seed in (1, 2):
        config = run(seed=seed, run_id=f"numbers{seed}")
        run_stepd(config)
        run_stepe(config)
        folders.append(run_step6(config))
    for folder in folders:
        (dominance,) = read_json(folder / "eval_summary.json")["transfer"]["dominance"]
        assert {row["eval_qid"] for row in dominance["per_relation"]} == {"010", "10"}
    held_out = pd.read_csv(gather_seeds(folders) / "held_out.csv", keep_default_na=False, dtype=str)
    assert set(held_out["eval_qid"]) == {"010", "10"} and set(held_out["fv"]) == {"", "010", "10"}
