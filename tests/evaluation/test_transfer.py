"""The transfer matrix by hand: effects, controls, cosines, and how far the diagonal stands out."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from fv.config import StatsConfig
from fv.evaluation.tables import ALL, FEW_SHOT_CORRECT
from fv.evaluation.transfer import cosine_table, dominance, dominance_of_each_k, transfer_matrix, transfer_table
from fv.statistics.intervals import INTERVAL, estimate_means
from fv.vectors.vector import Vector

QUICK = StatsConfig(n_resamples=200)


def vector(name: str, *values: float) -> Vector:
    return Vector(name, "qid", name, torch.tensor(values).float())


def rows_of(effects: dict[tuple[str, str], list[float]], condition: str = "fv") -> pd.DataFrame:
    """Trial rows of the effects of each (vector, relation)."""
    rows = [
        (fv, q, condition, f"{q}{i}", value) for (fv, q), values in effects.items() for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["fv", "eval_qid", "condition", "trial_id", "delta_logprob"])


TWO = {("a", "a"): [4.0, 2.0, 3.0], ("b", "a"): [1.0, 1.0, -2.0], ("a", "b"): [5.0, 0.0], ("b", "b"): [3.0, 1.0]}
THREE = {
    ("a", "a"): [6.0, 4.0],
    ("b", "a"): [1.0, 2.0],
    ("c", "a"): [3.0, 0.0],
    ("a", "b"): [0.0, 0.0],
    ("b", "b"): [2.0, 2.0],
    ("c", "b"): [5.0, -3.0],
    ("a", "c"): [1.0, 1.0],
    ("b", "c"): [4.0, 6.0],
    ("c", "c"): [3.0, 3.0],
}


# Cosines


def test_cosines_by_hand() -> None:
    found = cosine_table([vector("a", 3, 4), vector("b", 4, 3), vector("c", -4, 3)])
    assert list(found.columns) == ["fv", "a", "b", "c"] and found["fv"].tolist() == ["a", "b", "c"]
    expected = [[1, 24 / 25, 0], [24 / 25, 1, -7 / 25], [0, -7 / 25, 1]]
    np.testing.assert_allclose(found[["a", "b", "c"]], expected, atol=1e-15)


def test_cosines_are_symmetric_with_ones_on_the_diagonal() -> None:
    values = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    found = cosine_table([vector(f"q{i}", *row.tolist()) for i, row in enumerate(values)]).drop(columns="fv").to_numpy()
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(np.diag(found), 1, rtol=1e-12)
    unit = values.double().numpy() / np.linalg.norm(values.double().numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(found, unit @ unit.T, atol=1e-12)


# The table and the matrix


def means_of(effects: dict[tuple[str, str], float], **where: str) -> pd.DataFrame:
    """Rows as of `means_table` or `contrasts_table`, with intervals of half a unit to both sides."""
    rows = [{"fv": fv, "eval_qid": q, **where, "n": 3, "mean": mean} for (fv, q), mean in effects.items()]
    table = pd.DataFrame(rows, columns=["fv", "eval_qid", *where, "n", "mean"])
    return table.assign(se=0.25, ci_low=table["mean"] - 0.5, ci_high=table["mean"] + 0.5)


MEANS = {("a", "a"): 4.0, ("a", "b"): 1.0, ("b", "a"): 2.0, ("b", "b"): 3.0}
NOISE = dict.fromkeys(MEANS, 99.0)
OWN = {"condition": "fv", "subset": ALL, "metric": "delta_logprob"}
AGAINST = {"condition": "fv", "minus": "random_vector", "subset": ALL, "metric": "logprob"}


def other_rows(own: dict[str, str], **others: str) -> list[pd.DataFrame]:
    """Rows that differ in one column and are to be left out."""
    return [means_of(NOISE, **{**own, column: value}) for column, value in others.items()]


def tables() -> tuple[pd.DataFrame, pd.DataFrame, list[Vector]]:
    means = [means_of(MEANS, **OWN), *other_rows(OWN, condition="random_vector", subset=FEW_SHOT_CORRECT, metric="p")]
    left_out = other_rows(AGAINST, minus="few_shot", subset=FEW_SHOT_CORRECT, metric="p", condition="other")
    contrasts = [means_of({key: mean / 2 for key, mean in MEANS.items()}, **AGAINST), *left_out]
    return pd.concat(means), pd.concat(contrasts), [vector("a", 1, 0), vector("b", 1, 1)]


def test_a_row_has_the_effect_the_effect_minus_random_vectors_and_the_cosine() -> None:
    found: Any = transfer_table(*tables()).set_index(["fv", "eval_qid"])
    assert len(found) == 4
    assert found.loc[("b", "a")].to_dict() == {
        "n": 3.0,
        "effect": 2.0,
        "se": 0.25,
        "ci_low": 1.5,
        "ci_high": 2.5,
        "effect_minus_control": 1.0,
        "control_se": 0.25,
        "control_ci_low": 0.5,
        "control_ci_high": 1.5,
        "cosine": pytest.approx(1 / math.sqrt(2)),
    }
    assert found["effect"].to_dict() == MEANS
    assert found["cosine"].to_dict() == {key: pytest.approx(1 if key[0] == key[1] else 0.5**0.5) for key in MEANS}


def test_without_random_vectors_the_effect_stands_alone() -> None:
    means, contrasts, vectors = tables()
    found = transfer_table(means, contrasts[contrasts["minus"] != "random_vector"], vectors)
    assert found.set_index(["fv", "eval_qid"])["effect"].to_dict() == MEANS
    assert found[["effect_minus_control", "control_ci_low", "control_ci_high"]].isna().all(axis=None)


def test_a_relation_without_a_vector_has_no_cosine() -> None:
    means, contrasts, _ = tables()
    found = transfer_table(means, contrasts, [vector("a", 1, 0), Vector("b", "file", None, torch.ones(2))])
    cosines = found.set_index(["fv", "eval_qid"])["cosine"]
    assert cosines["a", "a"] == 1.0 and math.isnan(cosines["a", "b"])
    assert cosines["b", "a"] == pytest.approx(0.5**0.5) and math.isnan(cosines["b", "b"])


def test_the_matrix_has_a_row_a_vector_and_a_column_a_relation() -> None:
    table = transfer_table(*tables())
    matrix: Any = transfer_matrix(table.sample(frac=1, random_state=0))
    assert list(matrix.columns) == ["fv", "a", "b"]
    assert matrix.to_numpy().tolist() == [["a", 4.0, 1.0], ["b", 2.0, 3.0]]
    assert transfer_matrix(table, "effect_minus_control").to_numpy().tolist() == [["a", 2.0, 0.5], ["b", 1.0, 1.5]]


def test_a_vector_that_was_not_tried_on_a_relation_has_an_empty_place() -> None:
    table = transfer_table(*tables())
    matrix: Any = transfer_matrix(table[(table["fv"] == "a") | (table["eval_qid"] == "b")]).set_index("fv")
    assert matrix.loc["a"].tolist() == [4.0, 1.0]
    assert math.isnan(matrix.loc["b", "a"]) and matrix.loc["b", "b"] == 3.0


# Dominance


def test_dominance_of_two_by_two_by_hand() -> None:
    found = dominance(rows_of(TWO), QUICK, 0)
    assert found is not None
    # On a: 3, 1, 5. On b: -2, 1. The means of a's vector are 3 against 0, and of b's 2 against 2.5.
    assert [(r["eval_qid"], r["n"], r["mean"]) for r in found["per_relation"]] == [("a", 3, 3.0), ("b", 2, -0.5)]
    assert (found["n_relations"], found["mean"], found["share_own_best"]) == (2, 1.25, 0.5)


def test_dominance_of_three_by_three_by_hand() -> None:
    found = dominance(rows_of(THREE), QUICK, 0)
    assert found is not None
    # Others' means a trial: on a 2 and 1, on b 2.5 and -1.5, on c 2.5 and 3.5.
    assert [(r["eval_qid"], r["mean"]) for r in found["per_relation"]] == [("a", 3.5), ("b", 1.5), ("c", 0.0)]
    assert found["mean"] == pytest.approx(5 / 3)
    # Own means 5, 2, 3 against at best 1.5, 1, 5.
    assert found["share_own_best"] == pytest.approx(2 / 3)


def test_dominance_has_paired_intervals_over_trials_and_one_over_relations() -> None:
    found = dominance(rows_of(THREE), QUICK, 7)
    assert found is not None
    expected = estimate_means(np.array([[4.0, 3.0]]), QUICK, 7, "dominance", "a")
    assert {name: found["per_relation"][0][name] for name in INTERVAL} == expected.of(0)
    over = estimate_means(np.array([[3.5, 1.5, 0.0]]), QUICK, 7, "dominance")
    assert {name: found[name] for name in INTERVAL} == over.of(0)
    assert found["ci_low"] < found["mean"] < found["ci_high"]


def test_dominance_over_relations_has_its_interval_over_clusters() -> None:
    found = dominance(rows_of(THREE), QUICK, 7, {"a": "one", "c": "one"})
    alone = dominance(rows_of(THREE), QUICK, 7)
    assert found is not None and alone is not None
    assert (found["n_relations"], found["n_clusters"], alone["n_clusters"]) == (3, 2, 3)
    # The cluster's parts of 3.5 and 0 about the mean of 5 / 3, and of 1.5: two of three relations a unit.
    mean = 5 / 3
    units = np.array([[mean + 2 / 3 * (3.5 + 0.0 - 2 * mean), mean + 2 / 3 * (1.5 - mean)]])
    due = estimate_means(units, QUICK, 7, "dominance").of(0)
    assert {name: found[name] for name in INTERVAL} == pytest.approx(due)
    assert found["per_relation"] == alone["per_relation"]


def test_relations_of_one_cluster_alone_have_no_interval_over_relations() -> None:
    found = dominance(rows_of(THREE), QUICK, 0, dict.fromkeys("abc", "one"))
    assert found is not None
    assert (found["n_clusters"], found["mean"], found["ci_low"]) == (1, pytest.approx(5 / 3), None)


def test_dominance_does_not_depend_on_the_order_of_rows_or_on_other_conditions() -> None:
    rows = pd.concat([rows_of(THREE), rows_of({key: [50.0, -9.0] for key in THREE}, "random_vector")])
    assert dominance(rows.sample(frac=1, random_state=1), QUICK, 0) == dominance(rows_of(THREE), QUICK, 0)


def test_a_single_relation_has_its_dominance_and_no_interval_over_relations() -> None:
    on_a = {key: values for key, values in TWO.items() if key[1] == "a"}
    found = dominance(rows_of(on_a), QUICK, 0)
    assert found is not None
    assert (found["n_relations"], found["mean"], found["ci_low"], found["ci_high"]) == (1, 3.0, None, None)


@pytest.mark.parametrize(
    "left",
    [[("a", "a"), ("b", "b")], [("a", "b"), ("b", "a")], [("a", "a")], []],
)
def test_where_no_relation_has_its_own_and_anothers_vector_there_is_no_dominance(left: list[tuple[str, str]]) -> None:
    assert dominance(rows_of({key: TWO[key] for key in left}), QUICK, 0) is None


def test_a_relation_without_its_own_vector_is_left_out() -> None:
    found = dominance(rows_of({**TWO, ("a", "z"): [1.0], ("b", "z"): [2.0]}), QUICK, 0)
    assert found == dominance(rows_of(TWO), QUICK, 0)


def test_vectors_of_several_k_are_compared_with_those_of_their_own_k() -> None:
    def of_k(k: int, source: str, *values: float) -> Vector:
        return Vector(source, "qid", source, torch.tensor(values).float(), k, of_several=True)

    vectors = [of_k(1, "a", 1, 0), of_k(1, "b", 0, 1), of_k(5, "a", 1, 1), of_k(5, "b", 1, 1)]
    rows = pd.concat([rows_of(TWO).replace({"fv": {"a": f"a@k{k}", "b": f"b@k{k}"}}) for k in (1, 5)])
    found = dominance_of_each_k(rows, vectors, QUICK, 0)
    together = dominance_of_each_k(rows, vectors, QUICK, 0, {"a": "one", "b": "one"})
    assert [one["n_clusters"] for one in (*found, *together)] == [2, 2, 1, 1]
    assert [one["k"] for one in found] == [1, 5]
    due = {**(dominance(rows_of(TWO), QUICK, 0) or {}), "kind": "qid", "k": None}
    assert [{**one, "k": None} for one in found] == [due] * 2
    means = pd.concat([means_of({(f"a@k{k}", "b"): 1.0}, **OWN) for k in (1, 5)])
    assert transfer_table(means, means_of({}, **AGAINST), vectors)["cosine"].tolist() == [0.0, pytest.approx(1.0)]


def test_a_relation_may_be_called_like_a_column() -> None:
    assert list(cosine_table([vector("fv", 1, 0), vector("b", 0, 1)]).columns) == ["fv", "fv", "b"]
    table = pd.DataFrame({"fv": ["fv", "b"], "eval_qid": ["fv", "fv"], "effect": [1.0, 2.0]})
    assert transfer_matrix(table).to_numpy().tolist() == [["b", 2.0], ["fv", 1.0]]
