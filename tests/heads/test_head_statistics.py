"""Tables of heads with intervals: by query, by cluster of relations, and adjusted for how many heads there are."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from families import tiny_editable
from scipy.stats import false_discovery_control, rankdata, ttest_1samp

import fv
from fv.config import ScoreConfig, Screen, StatsConfig
from fv.data.relations import Pair
from fv.data.snapshot import Snapshot
from fv.heads.effects import Effects
from fv.heads.indirect_effect import SCORES, TrialEffects, aie_stats, aie_table, cie_stats, cie_table, query_numbers
from fv.heads.measurement import Measurement
from fv.heads.ranking import heads_to_sweep
from fv.heads.relations import effect_tables, effects_flow
from fv.heads.stability import effects_of, is_stable
from fv.interventions.editable import EditableModel
from fv.interventions.engines import make_engine
from fv.runs.effect_files import read_trial_effects, write_trial_effects
from fv.statistics.clusters import per_cluster
from fv.statistics.intervals import INTERVAL, estimate_means
from fv.statistics.multiplicity import sign_flip_max_t
from fv.work.driver import SERIAL

QUICK = StatsConfig(n_resamples=200)
QUERIES = np.array([0, 0, 0, 1, 1, 2, 3, 3, 4])
FIT = 6


def some_effects(n_trials: int, seed: int, queries: np.ndarray | None = None, shift: float = 0.0) -> TrialEffects:
    """Of two layers of three heads, one head of each not swept."""
    values = np.random.default_rng(seed).normal(shift, size=(2, n_trials, 2, 3))
    values[:, :, :, 1] = np.nan
    delta_logprob, delta_p = values
    return TrialEffects.read(delta_logprob, delta_p, queries)


def swept_values(effects: TrialEffects, metric: str) -> np.ndarray:
    """(n_heads, n_trials)."""
    values = effects.delta_p if metric == "mean_delta_p" else effects.delta_logprob
    return values[:, :, [0, 2]].reshape(len(values), -1).T


# Over queries


def test_effects_of_a_head_have_their_interval_over_queries() -> None:
    effects = some_effects(9, 0, QUERIES)
    found = cie_stats({"q": effects}, QUICK, 3)
    assert (found["n_trials"] == 9).all() and (found["n_queries"] == 5).all()
    np.testing.assert_allclose(found["mean"], pd.concat([cie_table("q", effects)[metric] for metric in SCORES]))
    for metric, rows in found.groupby("metric"):
        due = estimate_means(per_cluster(swept_values(effects, str(metric)), QUERIES), QUICK, 3, "cie", "q")
        assert rows[INTERVAL].to_numpy().T.tolist() == [values.tolist() for values in due.columns().values()]


def test_trials_of_other_queries_each_are_what_is_resampled() -> None:
    effects = some_effects(9, 0)
    numbers = replace(effects, queries=np.arange(9)[::-1].copy())
    found, due = (cie_stats({"q": each}, QUICK, 0) for each in (numbers, effects))
    assert found.to_csv() == due.to_csv() and (found["n_queries"] == 9).all()


def test_the_order_of_columns_is_what_a_run_writes() -> None:
    cie = cie_stats({"q": some_effects(4, 0)}, QUICK, 0)
    last = [*INTERVAL, "p_positive", "q_value", "p_maxt"]
    assert list(cie.columns) == ["q_id", "layer", "head", "metric", "n_trials", "n_queries", *last]
    aie = aie_stats(cie_table("q", some_effects(4, 0)), QUICK, 0)
    assert list(aie.columns) == ["layer", "head", "metric", "n_qids", "n_clusters", *last, "mean_rank"]


def test_intervals_over_queries_cover_where_those_over_trials_do_not() -> None:
    # Six queries of three trials; half of the variance is the query's. 2,000 heads tell the coverage to 0.5 points.
    rng, queries = np.random.default_rng(0), np.repeat(np.arange(6), 3)
    values = rng.normal(size=(6, 1, 2000))[queries] + rng.normal(size=(18, 1, 2000))
    held = {}
    for name, numbers in (("trial", None), ("query", queries)):
        found = cie_stats({"q": TrialEffects(values, values, numbers)}, QUICK, 0)
        held[name] = ((found["ci_low"] <= 0) & (found["ci_high"] >= 0)).mean()
    assert held["trial"] < 0.88 and held["query"] > 0.93


def test_a_query_counts_once_in_a_rankings_stability() -> None:
    clear = np.tile([4.0, 3.0, 2.0, 1.0], (12, 1)).reshape(12, 2, 2)
    repeated = TrialEffects(clear, clear, np.repeat(np.arange(3), 4))
    assert repeated.n_queries == 3 and effects_of(repeated, SCORES[0]).shape == (3, 4)
    assert is_stable(TrialEffects(clear, clear), ScoreConfig(k=2), 0) and not is_stable(repeated, ScoreConfig(k=2), 0)


def test_the_stability_of_a_ranking_does_not_gain_from_repeats_of_a_query() -> None:
    effects = some_effects(6, 1)
    repeated = TrialEffects.read(
        effects.delta_logprob.repeat(3, axis=0), effects.delta_p.repeat(3, axis=0), np.repeat(np.arange(6), 3)
    )
    for key in SCORES:
        np.testing.assert_allclose(effects_of(repeated, key), effects_of(effects, key))


# Multiplicity


def test_heads_are_adjusted_within_a_relation_and_metric() -> None:
    effects = {"a": some_effects(7, 0, shift=0.8), "b": some_effects(9, 1, QUERIES)}
    found = cie_stats(effects, QUICK, 5)
    for (q_id, metric), rows in found.groupby(["q_id", "metric"]):
        own = effects[str(q_id)]
        units = per_cluster(swept_values(own, str(metric)), own.query_numbers)
        due = false_discovery_control(ttest_1samp(units, 0, axis=1).pvalue)
        np.testing.assert_allclose(rows["q_value"], due)
        assert rows["p_maxt"].tolist() == sign_flip_max_t(units, 5, "cie", q_id).tolist()


def test_heads_that_a_screen_left_out_are_in_the_family() -> None:
    effects = {"a": some_effects(7, 0, shift=1.5)}
    every, screened = (cie_stats(effects, QUICK, 0, n_tests) for n_tests in (4, 40))
    assert every.to_csv() == cie_stats(effects, QUICK, 0).to_csv()
    np.testing.assert_allclose(screened["q_value"], np.minimum(10 * every["q_value"], 1))
    assert screened["p_maxt"].isna().all() and every["p_maxt"].notna().all()


def test_a_single_unit_is_not_tested() -> None:
    cie = cie_stats({"q": some_effects(3, 0, np.zeros(3, dtype=int))}, QUICK, 0)
    aie = aie_stats(cie_table("q", some_effects(3, 0)), QUICK, 0)
    for found in (cie, aie):
        assert found[["ci_low", "ci_high", "q_value", "p_maxt"]].isna().all(axis=None) and found["mean"].notna().all()


# Over relations


def cie_of(n_qids: int) -> pd.DataFrame:
    return pd.concat([cie_table(f"q{i}", some_effects(4, i, shift=i)) for i in range(n_qids)], ignore_index=True)


def test_the_mean_over_relations_has_its_interval_over_clusters() -> None:
    cie, clusters = cie_of(5), {"q1": "countries", "q4": "countries", "other": "countries"}
    found = aie_stats(cie, QUICK, 0, clusters)
    assert (found["n_qids"] == 5).all() and (found["n_clusters"] == 4).all()
    for metric, rows in found.groupby("metric"):
        wide = cie.pivot(index=["layer", "head"], columns="q_id", values=metric).to_numpy()
        units = per_cluster(wide, np.array([0, 1, 2, 3, 1]))
        due = estimate_means(units, QUICK, 0, "aie")
        assert rows[INTERVAL].to_numpy().T.tolist() == [values.tolist() for values in due.columns().values()]
        np.testing.assert_allclose(rows["mean"], aie_table(cie)[metric])
        np.testing.assert_allclose(rows["q_value"], false_discovery_control(ttest_1samp(units, 0, axis=1).pvalue))
        assert rows["p_maxt"].tolist() == sign_flip_max_t(units, 0, "aie").tolist()


def test_relations_without_clusters_are_units_of_their_own() -> None:
    found = aie_stats(cie_of(4), QUICK, 0)
    assert found.to_csv() == aie_stats(cie_of(4), QUICK, 0, {"elsewhere": "c"}).to_csv()
    assert (found["n_clusters"] == 4).all()


def test_relations_of_one_cluster_alone_have_no_interval() -> None:
    found = aie_stats(cie_of(3), QUICK, 0, dict.fromkeys(["q0", "q1", "q2"], "all"))
    assert (found["n_clusters"] == 1).all()
    assert found[["se", "ci_low", "ci_high", "q_value", "p_maxt"]].isna().all(axis=None)


def test_a_mean_rank_averages_each_relations_ranks() -> None:
    cie = cie_of(6)
    for metric, rows in aie_stats(cie, QUICK, 0).groupby("metric"):
        wide = cie.pivot(index=["layer", "head"], columns="q_id", values=metric).to_numpy()
        np.testing.assert_allclose(rows["mean_rank"], rankdata(-wide, axis=0).mean(1))


def test_ties_of_a_rank_go_to_the_lower_layer_then_head_and_a_large_relation_leads_no_ranks() -> None:
    # Two relations put (0, 1) first; the third has a large effect of (1, 0), which leads the mean.
    effects = {"a": [1.0, 2.0, 1.0], "b": [0.0, 3.0, 0.0], "c": [0.0, 0.0, 50.0]}
    places = {"layer": [0, 0, 1], "head": [0, 1, 0], "n_trials": 1}
    rows = [pd.DataFrame({"q_id": q_id, **places, **dict.fromkeys(SCORES, own)}) for q_id, own in effects.items()]
    found = aie_stats(pd.concat(rows, ignore_index=True), QUICK, 0).groupby("metric").get_group(SCORES[0])
    assert found["mean_rank"].tolist() == pytest.approx([2, 5 / 3, 7 / 3])
    assert found["mean"].argmax() == 2


# Where queries and clusters come from, and where they are kept


@pytest.fixture(scope="module")
def lm() -> EditableModel:
    sizes = {"num_attention_heads": 4, "num_hidden_layers": 2, "max_position_embeddings": 128}
    return replace(tiny_editable("llama", **sizes), fingerprint={"tokenizer_sha256": "0" * 64})


@pytest.fixture(scope="module")
def snapshot(lm: EditableModel) -> Snapshot:
    """Fit trials 0, 2 and 5 of each relation have one query, in two spellings."""
    pairs = [(f"{a}{b}", f"{b}{a}") for a, b in zip("abcdefghijkl", "mnopqrstuvwx", strict=True)]
    sampled = fv.sample_trials({"one": pairs, "two": pairs[::-1]}, lm, demos=2, fit=FIT, held_out=1).snapshot
    trials = list(sampled.trials)
    for q_id in sampled.qids:
        own = [i for i, trial in enumerate(trials) if (trial.q_id, trial.split) == (q_id, "fit")]
        query = trials[own[0]].query
        for i, spelt in ((own[2], query), (own[5], Pair(query.exA.upper(), f" {query.exB}"))):
            trials[i] = trials[i].model_copy(update={"query": spelt})
    return sampled.model_copy(update={"trials": trials})


def measured(lm: EditableModel, snapshot: Snapshot, **score: Any) -> Effects:
    settings = ScoreConfig(**{"k": 2, **score})
    engine = make_engine(lm, "auto", 256)
    how = Measurement(lm, snapshot, heads_to_sweep("all", "all", 2, 4), engine, settings, seed=3)
    return SERIAL.run(effects_flow(how, QUICK), "effects")


@pytest.mark.parametrize("n_trials", [None, 4])
def test_measured_effects_know_which_trials_have_one_query(
    lm: EditableModel, snapshot: Snapshot, n_trials: int | None
) -> None:
    found = measured(lm, snapshot, n_trials=n_trials)
    due = [0, 1, 0, 2, 3, 0][:n_trials]
    for own in found.effects.values():
        assert own.queries is not None and own.queries.tolist() == due
    assert set(found["one"].intervals["n_queries"]) == {len(set(due))}
    assert set(effect_tables(found).cie_stats["n_queries"]) == {len(set(due))}


def test_a_screened_run_counts_all_heads_that_it_could_have_measured(lm: EditableModel, snapshot: Snapshot) -> None:
    found = measured(lm, snapshot, screen=Screen.gradient, verify=2, verify_random=1)
    own = found["one"].intervals
    units = effects_of(found.effects["one"], SCORES[0])
    assert units.shape[1] < 8
    padded = np.append(ttest_1samp(units, 0).pvalue, np.ones(8 - units.shape[1]))
    np.testing.assert_allclose(
        own[own["metric"] == SCORES[0]]["q_value"], false_discovery_control(padded)[: units.shape[1]]
    )


def test_queries_and_clusters_come_back_from_a_file(lm: EditableModel, snapshot: Snapshot, tmp_path: Path) -> None:
    effects = replace(measured(lm, snapshot), clusters={"one": "all", "two": "all"})
    effects.save(tmp_path / "effects.safetensors")
    loaded = fv.load_effects(tmp_path / "effects.safetensors")
    assert loaded.clusters == effects.clusters
    for q_id in effects:
        assert loaded.effects[q_id].query_numbers.tolist() == effects.effects[q_id].query_numbers.tolist()
        pd.testing.assert_frame_equal(loaded[q_id].intervals, effects[q_id].intervals, check_exact=True)
    assert (loaded.mean().intervals["n_clusters"] == 1).all()
    assert (effect_tables(loaded).aie_stats["n_clusters"] == 1).all()
    torch.testing.assert_close(loaded.means["one"].clean, effects.means["one"].clean)


@pytest.mark.parametrize("queries", [None, QUERIES])
def test_queries_of_a_run_come_back_by_relation(tmp_path: Path, queries: np.ndarray | None) -> None:
    parts = {"b": some_effects(9, 0, queries), "a": some_effects(9, 1, QUERIES)}
    joined = TrialEffects.cat([*parts.values()])
    assert joined.n_queries == sum(own.n_queries for own in parts.values())
    ids = [q_id for q_id, own in parts.items() for _ in range(own.n_trials)]
    write_trial_effects(tmp_path / "cie_trials.npz", [f"{q}/{i}" for i, q in enumerate(ids)], ids, joined)
    found = read_trial_effects(tmp_path / "cie_trials.npz")
    assert [*found] == ["b", "a"]
    for q_id, own in parts.items():
        assert found[q_id].query_numbers.tolist() == own.query_numbers.tolist()
        np.testing.assert_array_equal(found[q_id].delta_p, own.delta_p)


def test_heads_of_another_sweep_keep_the_queries() -> None:
    one = some_effects(9, 0, QUERIES)
    assert one.with_heads_of(some_effects(9, 1, QUERIES)).query_numbers.tolist() == QUERIES.tolist()


def test_effects_without_numbered_queries_join_without(snapshot: Snapshot) -> None:
    assert TrialEffects.cat([some_effects(2, 0), some_effects(3, 1)]).queries is None
    assert query_numbers(snapshot.of("one", "fit")).tolist() == [0, 1, 0, 2, 3, 0]
