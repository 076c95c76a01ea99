"""The headline: numbers of the tables it is made of, one declared test, and a share that is a ratio of means."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from held_out_rows import trial_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import StatsConfig
from fv.evaluation.headline import DECLARED, few_shot_shares, headline_table
from fv.evaluation.tables import contrasts_table, means_table
from fv.vectors.vector import Vector

STATS = StatsConfig(n_resamples=200)
N = 12
CONTRASTS = [("fv", "corrupted_prompts"), ("fv", "few_shot")]
REFIT_OF = {"fv_refit": "fv", "corrupted_prompts_refit": "corrupted_prompts"}


def rows_of(
    q_id: str, fvs: dict[str, float], n_refits: int = 0, seed: int = 0, shown: list[bool] | None = None
) -> pd.DataFrame:
    """Rows of a relation and its vectors: {vector: how far it is above the vector of corrupted prompts}."""
    rng = np.random.default_rng([seed, *q_id.encode()])
    zero = rng.normal(-5, 1, N)
    scores = {("", "zero_shot", 0): zero, ("", "few_shot", 0): zero + 4 + rng.normal(0, 0.5, N)}
    for fv, beyond in fvs.items():
        corrupted = zero + rng.normal(0.5, 0.5, N)
        scores[fv, "fv", 0] = corrupted + beyond + rng.normal(0, 1, N)
        scores[fv, "corrupted_prompts", 0] = corrupted
        for draw in range(n_refits):
            scores[fv, "fv_refit", draw] = scores[fv, "fv", 0] + rng.normal(0, 0.3)
            scores[fv, "corrupted_prompts_refit", draw] = corrupted + rng.normal(0, 0.1)
    return trial_rows(scores, q_id, REFIT_OF, shown or ())


def vector_of(name: str, q_id: str | None, kind: str = "qid", k: int | None = 3) -> Vector:
    return Vector(name, kind, q_id, torch.ones(4), k)


def headline(rows: pd.DataFrame, vectors: dict[str, Vector]) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The headline, and the tables it is made of."""
    shown = rows.drop_duplicates("trial_id").groupby("eval_qid")["answer_shown"].sum()
    relations = pd.DataFrame({"eval_qid": shown.index, "n_answer_shown": shown.to_numpy(), "lead_metric": "top1"})
    relations = relations.assign(constant_top1=0.25, repeat_top1=0.125)
    means, contrasts = means_table(rows, STATS, 0), contrasts_table(rows, CONTRASTS, STATS, 0)
    return headline_table(rows, means, contrasts, relations, vectors, STATS, 0), means, contrasts


def declared_values(rows: pd.DataFrame, q_id: str, fv: str) -> np.ndarray:
    """Log p of the vector minus that of the vector of corrupted prompts, trial by trial."""
    own = rows[(rows["eval_qid"] == q_id) & (rows["fv"] == fv)].set_index("condition")["logprob"]
    return own["fv"].to_numpy() - own["corrupted_prompts"].to_numpy()


# The declared test


def test_p_is_students_t_of_the_trials_where_there_are_no_refits() -> None:
    assert DECLARED == ("fv", "corrupted_prompts", "logprob")
    rows = pd.concat([rows_of(q_id, {q_id: beyond}) for q_id, beyond in (("a", 1.0), ("b", -0.4))])
    table, *_ = headline(rows, {q_id: vector_of(q_id, q_id) for q_id in "ab"})
    for row in table.to_dict("records"):
        due = scipy.stats.ttest_1samp(declared_values(rows, row["eval_qid"], row["fv"]), 0.0)
        assert row["p_value"] == pytest.approx(due.pvalue, rel=1e-9)
        assert row["n_refits"] == 0


def test_p_counts_the_spread_of_refits_with_welchs_degrees_of_freedom() -> None:
    rows = rows_of("a", {"a": 1.0}, n_refits=5)
    table, *_ = headline(rows, {"a": vector_of("a", "a")})
    values = declared_values(rows, "a", "a")
    mean = rows.groupby(["condition", "draw"])["logprob"].mean()
    spread = np.std([mean["fv_refit", i] - mean["corrupted_prompts_refit", i] for i in range(5)], ddof=1)
    a, b = values.var(ddof=1) / N, spread**2
    df = (a + b) ** 2 / (a**2 / (N - 1) + b**2 / 4)
    due = 2 * scipy.stats.t.sf(abs(values.mean()) / np.sqrt(a + b), df)
    assert table["p_value"].item() == pytest.approx(due, rel=1e-9) and table["n_refits"].item() == 5


def test_p_is_adjusted_over_the_relations_of_one_kind_and_k() -> None:
    own = {q_id: {f"{q_id}@3": b, f"{q_id}@5": 0.6, "b": 0.1} for q_id, b in (("a", 1.0), ("c", 0.7), ("d", 0.4))}
    rows = pd.concat([rows_of(q_id, fvs) for q_id, fvs in own.items()])
    vectors = {f"{q_id}@{k}": vector_of(f"{q_id}@{k}", q_id, k=k) for q_id in "acd" for k in (3, 5)}
    vectors["b"] = vector_of("b", "b")  # another relation's, on each of these
    table, *_ = headline(rows, vectors)
    for k in (3, 5):
        family = table[(table["k"] == k) & (table["fv"] != "b")].sort_values("p_value")
        p = family["p_value"].to_numpy()
        due = np.minimum(np.maximum.accumulate(p * np.array([3, 2, 1])), 1)  # Holm, of three
        np.testing.assert_allclose(family["p_holm"], due, rtol=1e-12)
    away = table[table["fv"] == "b"]
    assert len(away) == 3 and away["p_holm"].isna().all() and away["p_value"].notna().all()


def test_a_vector_of_no_relation_is_adjusted_over_all_relations_it_is_on() -> None:
    rows = pd.concat([rows_of(q_id, {"file": beyond}) for q_id, beyond in (("a", 1.0), ("b", 0.3))])
    table, *_ = headline(rows, {"file": vector_of("file", None, "file", None)})
    p = np.sort(table["p_value"].to_numpy(dtype=float))
    np.testing.assert_allclose(np.sort(table["p_holm"]), [min(2 * p[0], 1), max(min(2 * p[0], 1), p[1])])


# Numbers


def test_numbers_are_those_of_the_tables_of_means_and_contrasts() -> None:
    rows = rows_of("a", {"a": 1.0}, n_refits=3)
    table, means, contrasts = headline(rows, {"a": vector_of("a", "a")})
    (row,) = table.to_dict("records")
    mean_at: Any = means[means["subset"] == "all"].set_index(["condition", "draw", "metric"]).loc
    contrast_at: Any = contrasts[contrasts["subset"] == "all"].set_index(["condition", "minus", "metric"]).loc
    shown = {name: mean_at["fv", 0, name] for name in ("delta_logprob", "delta_logit_difference", "p", "rank")}
    shown |= {"accuracy": mean_at["fv", 0, "top1"]}
    for column, metric in (("minus_corrupted", "logprob"), ("minus_corrupted_logit_difference", "logit_difference")):
        shown[column] = contrast_at["fv", "corrupted_prompts", metric]
    for column, due in shown.items():
        found = [row[column], row[f"{column}_ci_low"], row[f"{column}_ci_high"]]
        assert found == due[["mean", "ci_low", "ci_high"]].tolist(), column
    before = {"accuracy_before": ("zero_shot", "top1"), "few_shot_accuracy": ("few_shot", "top1")}
    before |= {"p_before": ("zero_shot", "p"), "rank_before": ("zero_shot", "rank")}
    for column, (condition, metric) in before.items():
        assert row[column] == mean_at[condition, 0, metric]["mean"], column
    assert (row["constant"], row["repeat"], row["n"], row["layer"], row["alpha"]) == (0.25, 0.125, N, 1, 2.0)
    assert (row["kind"], row["k"], row["lead_metric"]) == ("qid", 3, "top1")


def test_answers_that_no_fit_prompt_shows_are_told_apart() -> None:
    shown = [True] * 5 + [False] * (N - 5)
    for flags, n_new in ((shown, N - 5), ([False] * N, N), ([True] * N, 0)):
        rows = rows_of("a", {"a": 1.0}, shown=flags)
        (row,) = headline(rows, {"a": vector_of("a", "a")})[0].to_dict("records")
        new = rows[(rows["condition"] == "fv") & ~rows["answer_shown"]]["delta_logprob"]
        assert row["n_answer_new"] == n_new == len(new)
        assert row["delta_logprob_answer_new"] == pytest.approx(new.mean(), nan_ok=True)
        assert row["n"] == N


def test_what_was_not_run_is_missing_and_nothing_else_is() -> None:
    rows = rows_of("a", {"a": 1.0})
    kept = rows[rows["condition"] != "corrupted_prompts"]
    (row,) = headline(kept, {"a": vector_of("a", "a")})[0].to_dict("records")
    assert all(pd.isna(row[name]) for name in ("minus_corrupted", "p_value", "p_holm"))
    assert not pd.isna(row["delta_logprob"]) and not pd.isna(row["share_of_few_shot"])


# The share of the few-shot gain


def shares_of(effect: np.ndarray, gain: np.ndarray, refits: tuple[float, ...] = ()) -> dict[str, float] | None:
    zero = np.full(len(gain), -5.0)
    scores = {("", "zero_shot", 0): zero, ("", "few_shot", 0): zero + gain, ("v", "fv", 0): zero + effect}
    scores |= {("v", "fv_refit", i): zero + effect + shift for i, shift in enumerate(refits)}
    return few_shot_shares(trial_rows(scores, refit_of=REFIT_OF), STATS, 0).get(("v", "a"))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 3), st.floats(1, 3)), min_size=5, max_size=20),
)
def test_the_share_is_a_ratio_of_means(pairs: list[tuple[float, float]]) -> None:
    effect, gain = np.array(pairs).T
    t = gain.mean() / max(gain.std(ddof=1) / np.sqrt(len(gain)), 1e-12)
    found = shares_of(effect, gain)
    assert (found is None) == (t <= scipy.stats.t.ppf(0.975, len(gain) - 1))
    if found is not None:
        assert found["mean"] == pytest.approx(effect.mean() / gain.mean(), abs=1e-9)
        assert found["ci_low"] <= found["mean"] + 1e-12 and found["mean"] <= found["ci_high"] + 1e-12


@pytest.mark.parametrize("gain", [np.zeros(8), np.tile([3.0, -3.0], 4), np.full(8, -2.0), np.array([5.0, 6.0])])
def test_there_is_no_share_where_the_few_shot_prompt_gains_nothing_measurable(gain: np.ndarray) -> None:
    assert shares_of(np.linspace(1, 2, len(gain)), gain, (0.0, 0.5)) is None


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_a_share_that_all_trials_have_is_certain_but_for_refits(share: float) -> None:
    gain = np.linspace(2.0, 3.7, 9)
    found = shares_of(share * gain, gain)
    assert found == pytest.approx({"mean": share, "ci_low": share, "ci_high": share}, abs=1e-9)
    found, half = shares_of(share * gain, gain, (-0.3, 0.0, 0.3)), 4.302652729911275 * 0.3 / gain.mean()
    assert found == pytest.approx({"mean": share, "ci_low": share - half, "ci_high": share + half}, abs=1e-9)


def test_its_interval_holds_the_truth() -> None:
    rng, truth, n, n_relations = np.random.default_rng(1), 0.4, 20, 80
    gain = rng.normal(4, 1.5, (n_relations, n))
    effect = truth * 4 + 0.6 * (gain - 4) + rng.normal(0, 1, gain.shape)
    where = pd.MultiIndex.from_product([range(n_relations), range(n)], names=["eval_qid", "trial_id"])
    tables = [
        pd.DataFrame({"fv": fv, "condition": condition, "draw": 0, "delta_logprob": values.ravel()}, index=where)
        for fv, condition, values in (("", "few_shot", gain), ("v", "fv", effect))
    ]
    found = few_shot_shares(pd.concat(tables).reset_index(), STATS, 0)
    holds = [share["ci_low"] <= truth <= share["ci_high"] for share in found.values()]
    assert len(holds) == n_relations and np.mean(holds) >= 0.88
