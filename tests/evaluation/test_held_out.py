"""Tables of the test trials: every number from trial rows, by hand, paired, and in one order."""

import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fv.config import StatsConfig
from fv.evaluation.tables import (
    ALL,
    ANSWER_NEW,
    CHANGES,
    CONTRASTED,
    FEW_SHOT_CORRECT,
    LEVELS,
    NO_VECTOR,
    contrast_rows,
    contrasts_table,
    cost_table,
    in_subsets,
    means_table,
    rated_rows,
)
from fv.interventions.answers import AnswerScores, score_columns
from fv.statistics.intervals import INTERVAL, Kind, estimate_means

QUICK = StatsConfig(n_resamples=200)
LN = np.log

# Two trials under two edits: no edit, and one that helps the first and harms the second.
SCORES = AnswerScores(
    logprob=LN([[0.1, 0.5], [0.4, 0.2]]),
    rank=np.array([[3, 0], [0, 4]]),
    tied=np.array([[False, False], [False, False]]),
    logit_difference=np.array([[-2.0, 1.5], [np.nan, np.nan]]),
    answer_logprob=np.array([[-5.0, -3.0], [-1.0, -2.5]]),
    exact_match=np.array([[False, True], [True, False]]),
    text=np.array([["no", "yes"], ["yes", "no"]], dtype=object),
)
WHERE = {"fv": "v", "eval_qid": "q", "condition": "fv", "draw": 0}


def of_edit(edit: int, reference: pd.DataFrame | None) -> pd.DataFrame:
    scored = pd.DataFrame({**WHERE, "trial_id": ["t0", "t1"], **score_columns(SCORES, edit)})
    return rated_rows(scored, reference)


def test_a_conditions_levels_by_hand() -> None:
    rows = of_edit(1, None)
    assert rows[["fv", "eval_qid", "condition", "trial_id"]].to_numpy().tolist() == [
        ["v", "q", "fv", "t0"],
        ["v", "q", "fv", "t1"],
    ]
    np.testing.assert_allclose(rows["p"], [0.5, 0.2])
    assert rows[["rank", "top1", "top3", "top5", "exact_match"]].to_numpy().tolist() == [
        [0, 1, 1, 1, 1],
        [4, 0, 0, 1, 0],
    ]
    # Without a wrong output there is no candidate to beat.
    np.testing.assert_array_equal(rows["candidate_accuracy"], [1, np.nan])
    assert rows["text"].tolist() == ["yes", "no"]
    assert of_edit(0, None)[["top1", "top3", "top5"]].to_numpy().tolist() == [[0, 0, 1], [1, 1, 1]]
    np.testing.assert_array_equal(of_edit(0, None)["candidate_accuracy"], [0, np.nan])


def test_a_conditions_changes_by_hand() -> None:
    rows = of_edit(1, of_edit(0, None))
    np.testing.assert_allclose(rows["delta_logprob"], [LN(5), -LN(2)])
    np.testing.assert_allclose(rows["delta_p"], [0.4, -0.2])
    assert rows["delta_top1"].tolist() == [1, -1]
    assert rows["delta_answer_logprob"].tolist() == [2.0, -1.5]
    assert rows["worse"].tolist() == [0, 1]


def test_a_condition_that_changes_nothing_is_not_worse() -> None:
    assert of_edit(0, of_edit(0, None))[[*CHANGES]].fillna(0.0).to_numpy().tolist() == [[0.0] * len(CHANGES)] * 2


def test_a_condition_without_a_reference_has_no_changes() -> None:
    assert of_edit(0, None)[[*CHANGES]].isna().all(axis=None)


def test_changes_are_trial_by_trial_whatever_the_references_index() -> None:
    reference = of_edit(0, None).set_index(pd.Index([7, 3]))
    pd.testing.assert_frame_equal(of_edit(1, reference), of_edit(1, of_edit(0, None)))


# Tables of several conditions

CONTRASTS = [
    ("fv", "random_vector"),
    ("fv", "few_shot"),
    ("ablated_top_heads", "ablated_random_heads"),
    ("ablated_top_heads", "few_shot"),
]

N_TRIALS = 5


def rows_of(condition: str, fv: str, eval_qid: str = "q", n_draws: int = 1, seed: int = 0) -> pd.DataFrame:
    """Random values of a condition's draws on five trials, of which the few-shot prompt gets 0, 2 and 4 right."""
    rng = np.random.default_rng([seed, *f"{condition} {fv} {eval_qid}".encode()])
    kinds = {**CONTRASTED, **CHANGES, **LEVELS}
    rows = [
        (fv, eval_qid, condition, draw, f"{eval_qid}{i}", i % 2 == 0, *(value_of(kind, rng) for kind in kinds.values()))
        for draw in range(n_draws)
        for i in range(N_TRIALS)
    ]
    where = ["fv", "eval_qid", "condition", "draw", "trial_id", "few_shot_correct"]
    flags = {"compared_with": None, "all_draws": n_draws == 1, "answer_shown": False, "refit_of": None}
    return pd.DataFrame(rows, columns=[*where, *kinds]).assign(**flags)


def value_of(kind: Kind, rng: np.random.Generator) -> float:
    drawn = {Kind.mean: rng.normal(), Kind.proportion: float(rng.integers(2))}
    return float(drawn.get(kind, rng.integers(-1, 2)))


def many() -> pd.DataFrame:
    """Two vectors on two relations, with controls of several draws, a baseline without a vector and an ablation."""
    return pd.concat(
        [
            *(rows_of("fv", fv, q) for fv in ("v", "w") for q in ("q", "r")),
            *(rows_of("random_vector", fv, q, 3) for fv in ("v", "w") for q in ("q", "r")),
            *(rows_of("few_shot", NO_VECTOR, q) for q in ("q", "r")),
            rows_of("ablated_top_heads", "v"),
            rows_of("ablated_random_heads", "v", n_draws=2),
        ],
        ignore_index=True,
    )


def values_of(rows: pd.DataFrame, metric: str, condition: str, fv: str, eval_qid: str = "q") -> np.ndarray:
    """(n_draws, n_trials)."""
    own = rows[(rows["condition"] == condition) & (rows["fv"] == fv) & (rows["eval_qid"] == eval_qid)]
    return own.pivot(index="draw", columns="trial_id", values=metric).to_numpy()


def test_subsets_are_all_trials_and_those_that_few_shot_gets_right() -> None:
    rows = rows_of("fv", "v")
    found = in_subsets(rows).groupby("subset")["trial_id"].apply(list).to_dict()
    assert found == {ALL: ["q0", "q1", "q2", "q3", "q4"], FEW_SHOT_CORRECT: ["q0", "q2", "q4"]}
    none = in_subsets(rows.assign(few_shot_correct=False))
    assert none["subset"].tolist() == [ALL] * N_TRIALS


def test_where_some_answers_are_shown_the_others_are_a_subset() -> None:
    shown = rows_of("fv", "v", "q").assign(answer_shown=[True, False, True, True, False])
    found = in_subsets(pd.concat([shown, rows_of("fv", "w", "r")]))
    new = found[found["subset"] == ANSWER_NEW]
    # All of the other relation's answers are new: there it would be all trials once more.
    assert new["trial_id"].tolist() == ["q1", "q4"]
    assert in_subsets(shown.assign(answer_shown=True))["subset"].isin([ALL, FEW_SHOT_CORRECT]).all()


def test_every_metric_of_every_draw_has_its_mean_in_both_subsets() -> None:
    rows = many()
    found = means_table(rows, QUICK, 0).set_index(["fv", "eval_qid", "condition", "draw", "subset", "metric"])
    at: Any = found.loc
    n_draws = 4 * 1 + 4 * 3 + 2 + 1 + 2
    assert len(found) == n_draws * 2 * len({*LEVELS, *CHANGES}) and found.index.is_unique
    for metric in ("p", "worse"):
        values = values_of(rows, metric, "random_vector", "w", "r")[2]
        key = ("w", "r", "random_vector", 2)
        assert at[(*key, ALL, metric), ["n", "mean"]].tolist() == [5, pytest.approx(values.mean())]
        right = at[(*key, FEW_SHOT_CORRECT, metric), ["n", "mean"]].tolist()
        assert right == [3, pytest.approx(values[::2].mean())]


def test_a_metric_that_a_trial_lacks_is_not_averaged_over_the_others() -> None:
    rows = rows_of("fv", "v")
    rows.loc[rows["trial_id"] == "q1", "candidate_accuracy"] = np.nan
    found = means_table(rows, QUICK, 0)
    # All trials with few-shot right have it.
    assert found.loc[found["metric"] == "candidate_accuracy", "subset"].tolist() == [FEW_SHOT_CORRECT]


def test_a_control_is_subtracted_draw_by_draw() -> None:
    rows = many()
    found = contrast_rows(rows, CONTRASTS).set_index(["fv", "eval_qid", "condition", "minus", "trial_id"]).sort_index()
    assert found.groupby(level=[0, 1, 2, 3])["draw"].nunique().max() == 3
    at: Any = found.drop(columns=["draw", "all_draws"]).groupby(level=[0, 1, 2, 3, 4]).mean().loc
    for metric in CONTRASTED:
        expected = values_of(rows, metric, "fv", "w", "r")[0] - values_of(rows, metric, "random_vector", "w", "r").mean(
            0
        )
        np.testing.assert_allclose(at[("w", "r", "fv", "random_vector"), metric], expected)
        ablated = values_of(rows, metric, "ablated_top_heads", "v")[0]
        others = values_of(rows, metric, "ablated_random_heads", "v").mean(0)
        np.testing.assert_allclose(
            at[("v", "q", "ablated_top_heads", "ablated_random_heads"), metric], ablated - others
        )


def test_a_baseline_without_a_vector_is_compared_with_every_vector_of_its_relation() -> None:
    rows = many()
    found = contrast_rows(rows, CONTRASTS).set_index(["fv", "eval_qid", "condition", "minus", "trial_id"]).sort_index()
    at: Any = found.loc
    for fv in ("v", "w"):
        for q in ("q", "r"):
            expected = values_of(rows, "p", "fv", fv, q)[0] - values_of(rows, "p", "few_shot", NO_VECTOR, q)[0]
            np.testing.assert_allclose(at[(fv, q, "fv", "few_shot"), "p"], expected)


def test_exactly_the_pairs_that_both_exist_are_contrasted() -> None:
    found = contrast_rows(many(), CONTRASTS).drop_duplicates(["fv", "eval_qid", "condition", "minus"])
    pairs = set(found[["fv", "eval_qid", "condition", "minus"]].itertuples(index=False, name=None))
    both = {(fv, q, "fv", minus) for fv in ("v", "w") for q in ("q", "r") for minus in ("random_vector", "few_shot")}
    assert pairs == both | {("v", "q", "ablated_top_heads", m) for m in ("ablated_random_heads", "few_shot")}


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_only_the_contrasts_that_are_asked_for_are_made(contrast: tuple[str, str]) -> None:
    rows = pd.concat([rows_of(contrast[0], "v"), rows_of(contrast[1], "v"), rows_of("zero_shot", NO_VECTOR)])
    found = contrast_rows(rows, [contrast])
    assert set(found[["condition", "minus"]].itertuples(index=False, name=None)) == {contrast}
    values = [values_of(rows, "p", name, "v")[0] for name in contrast]
    np.testing.assert_allclose(found["p"], values[0] - values[1])


def test_a_contrasts_interval_is_that_of_the_differences_trial_by_trial() -> None:
    rows = many()
    # The vector is a control plus a little: its interval is far narrower than either one's.
    control = rows["condition"] == "random_vector"
    own = (rows["condition"] == "fv") & (rows["fv"] == "v") & (rows["eval_qid"] == "q")
    near = values_of(rows, "p", "random_vector", "v").mean(0) + np.array([0.01, 0.02, 0.03, 0.02, 0.02])
    rows.loc[own, "p"] = near
    found = contrasts_table(rows, CONTRASTS, QUICK, 3).set_index(
        ["fv", "eval_qid", "condition", "minus", "subset", "metric"]
    )
    differences = near - values_of(rows[control], "p", "random_vector", "v").mean(0)
    named = [f"q{i}" for i in range(N_TRIALS)]
    expected = estimate_means(differences[None], QUICK, 3, *named)
    row: Any = found.loc[("v", "q", "fv", "random_vector", ALL, "p"), :]
    assert (row["n"], row["n_draws"]) == (N_TRIALS, 3)
    every = contrasts_table(rows.assign(all_draws=True), CONTRASTS, QUICK, 3).set_index(found.index.names)
    paired: Any = every.loc[("v", "q", "fv", "random_vector", ALL, "p"), :]
    np.testing.assert_allclose(paired[INTERVAL].to_numpy(float), [v[0] for v in expected.columns().values()], rtol=1e-6)
    assert paired["ci_high"] - paired["ci_low"] < 0.02
    # Three draws of a control that varies from draw to draw know its mean far less well.
    assert row["ci_low"] < paired["ci_low"] - row["draw_sd"] and paired["ci_high"] + row["draw_sd"] < row["ci_high"]
    right: Any = found.loc[("v", "q", "fv", "random_vector", FEW_SHOT_CORRECT, "p"), :]
    assert (right["n"], right["mean"]) == (3, pytest.approx(differences[::2].mean()))


@pytest.mark.parametrize("contrasts", [[], CONTRASTS])
def test_where_nothing_is_contrasted_the_table_is_empty(contrasts: list[tuple[str, str]]) -> None:
    found = contrasts_table(rows_of("fv", "v"), contrasts, QUICK, 0)
    assert found.empty and {"fv", "minus", "metric", "mean"} <= set(found.columns)


def run_at() -> pd.DataFrame:
    """Trial rows that say where the conditions of `cost_rows` were run."""
    rows = cost_rows().drop_duplicates(["condition", "draw"])[["fv", "eval_qid", "condition", "draw"]]
    where: dict[str, Any] = {"layer": 1, "alpha": [1.0, 2.0, 3.0], "norm": 1.0, "relative_norm": None, "of": None}
    return rows.assign(**where, compared_with=None, all_draws=True, refit_of="")


def cost_rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    where = [("v", "q", "fv", 0), ("v", "q", "random_vector", 0), ("v", "q", "random_vector", 1)]
    rows = [(*key, text, rng.exponential()) for key in where for text in range(4)]
    return pd.DataFrame(rows, columns=["fv", "eval_qid", "condition", "draw", "text", "kl"])


def test_a_cost_is_the_mean_over_texts_of_each_condition_and_draw() -> None:
    rows = cost_rows()
    found = cost_table(rows, run_at(), QUICK, 0)
    expected = rows.groupby(["fv", "eval_qid", "condition", "draw"])["kl"].mean()
    assert (found["metric"] == "kl").all() and (found["n"] == 4).all()
    np.testing.assert_allclose(found["mean"].to_numpy(float), expected)
    assert found[["condition", "draw", "layer", "alpha"]].to_numpy().tolist() == [
        ["fv", 0, 1, 1.0],
        ["random_vector", 0, 1, 2.0],
        ["random_vector", 1, 1, 3.0],
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_rows_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    contrasts = functools.partial(contrasts_table, contrasts=CONTRASTS)
    costs = functools.partial(cost_table, trials=run_at())
    for rows, table in ((many(), means_table), (many(), contrasts), (cost_rows(), costs)):
        shuffled = rows.iloc[rng.permutation(len(rows))]
        of_both = [table(own, stats=QUICK, seed=0).to_csv() for own in (shuffled, rows)]
        assert of_both[0] == of_both[1]
