"""Tables of means within groups, over trials and over draws."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from fv.config import StatsConfig
from fv.config.evaluation import BootstrapMethod
from fv.statistics.grouped import SPREAD, grouped_means
from fv.statistics.intervals import INTERVAL, Kind, estimate_means

QUICK = StatsConfig(n_resamples=300)
PERCENTILE = StatsConfig(n_resamples=300, method=BootstrapMethod.percentile)
light = settings(max_examples=20, deadline=None)


def trial_rows(n_trials: Sequence[int] = (5, 5, 3)) -> pd.DataFrame:
    """Groups (a, 0), (a, 1) and (b, 0) over the first of the trials t0, t1, …"""
    rng = np.random.default_rng(2)
    groups = zip([("a", 0), ("a", 1), ("b", 0)], n_trials, strict=True)
    rows = [(name, draw, f"t{i}", *rng.normal(size=2)) for (name, draw), n in groups for i in range(n)]
    return pd.DataFrame(rows, columns=["name", "draw", "trial_id", "x", "y"])


def grouped(rows: pd.DataFrame, columns: Sequence[str] = ("x", "y")) -> pd.DataFrame:
    return grouped_means(rows, ["name", "draw"], dict.fromkeys(columns, Kind.mean), "trial_id", QUICK, 3)


def test_groups_have_the_means_and_counts_that_pandas_finds() -> None:
    rows = trial_rows()
    long = rows.melt(["name", "draw", "trial_id"], var_name="metric")
    expected = long.groupby(["name", "draw", "metric"])["value"].agg(["size", "mean"]).reset_index()
    found = grouped(rows)
    assert list(found.columns) == ["name", "draw", "metric", "n", *INTERVAL]
    assert (
        found[["name", "draw", "metric", "n"]].to_numpy().tolist() == expected.drop(columns="mean").to_numpy().tolist()
    )
    np.testing.assert_allclose(found["mean"].to_numpy(float), expected["mean"], rtol=1e-12)


def test_groups_over_the_same_trials_are_resampled_together() -> None:
    rows = trial_rows((9, 9, 3))
    pairs = rows[rows["name"] == "a"].pivot(index="trial_id", columns="draw", values="x")
    both = pd.concat([rows, (pairs[1] - pairs[0]).rename("x").reset_index().assign(name="d", draw=0, y=0.0)])
    kinds = {"x": Kind.mean}
    found = grouped_means(both, ["name", "draw"], kinds, "trial_id", PERCENTILE, 3).set_index(["name", "draw"])
    at: Any = found.loc
    due = estimate_means((pairs[1] - pairs[0]).to_numpy()[None], PERCENTILE, 3, *pairs.index)
    assert at[("d", 0), INTERVAL].tolist() == [values[0] for values in due.columns().values()]
    # And a group's numbers are the same whatever else is in the table.
    alone = grouped_means(rows[rows["name"] == "b"], ["name", "draw"], kinds, "trial_id", PERCENTILE, 3)
    assert alone[INTERVAL].to_numpy()[0].tolist() == at[("b", 0), INTERVAL].tolist()


@light
@given(st.permutations(range(13)))
def test_the_order_of_rows_does_not_matter(order: list[int]) -> None:
    rows = trial_rows()
    assert grouped(rows.iloc[order]).to_csv() == grouped(rows).to_csv()


def test_a_group_with_a_missing_value_in_a_column_has_no_estimate_of_it() -> None:
    rows = trial_rows()
    rows.loc[6, "y"] = np.nan  # of (a, 1)
    found, whole = grouped(rows), grouped(trial_rows())
    gone = (whole["name"] == "a") & (whole["draw"] == 1) & (whole["metric"] == "y")
    pd.testing.assert_frame_equal(found, whole[~gone].reset_index(drop=True))


@pytest.mark.parametrize("rows", [trial_rows()[:0], trial_rows().assign(x=np.nan, y=np.nan)])
def test_where_there_is_nothing_to_average_the_table_is_empty(rows: pd.DataFrame) -> None:
    found = grouped(rows)
    assert found.empty and list(found.columns) == ["name", "draw", "metric", "n", *INTERVAL]


# Draws


def drawn_rows(n_trials: int, n_draws: int, all_draws: bool = False, seed: int = 0) -> pd.DataFrame:
    """One group of crossed trials and draws, each with an effect of its own."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n_trials) + rng.normal(size=(n_draws, 1)) + 0.3 * rng.normal(size=(n_draws, n_trials))
    rows = [
        ("a", draw, f"t{i:02}", all_draws, x[draw, i], float(x[draw, i] > 0))
        for draw in range(n_draws)
        for i in range(n_trials)
    ]
    return pd.DataFrame(rows, columns=["name", "draw", "trial_id", "all_draws", "x", "positive"])


def over_draws(rows: pd.DataFrame) -> pd.DataFrame:
    kinds = {"x": Kind.mean, "positive": Kind.proportion_difference}
    return grouped_means(rows, ["name"], kinds, "trial_id", QUICK, 0, draw="draw").set_index("metric")


@pytest.mark.parametrize(("n_trials", "n_draws"), [(4, 3), (14, 20), (14, 2)])
def test_an_interval_over_trials_and_draws_adds_both_in_squares(n_trials: int, n_draws: int) -> None:
    rows = drawn_rows(n_trials, n_draws)
    found: Any = over_draws(rows).loc["x"]
    values = rows.pivot(index="draw", columns="trial_id", values="x").to_numpy()
    trials = estimate_means(values.mean(0)[None], QUICK, 0, *sorted(set(rows["trial_id"])))
    means = values.mean(1)
    draws = t.ppf(0.975, n_draws - 1) * means.std(ddof=1) / n_draws**0.5
    mean = values.mean()
    assert found["mean"] == pytest.approx(mean)
    assert found["ci_low"] == pytest.approx(mean - ((mean - trials.ci_low[0]) ** 2 + draws**2) ** 0.5)
    assert found["ci_high"] == pytest.approx(mean + ((trials.ci_high[0] - mean) ** 2 + draws**2) ** 0.5)
    assert found["se"] == pytest.approx((trials.se[0] ** 2 + means.var(ddof=1) / n_draws) ** 0.5)
    assert (found["n"], found["n_draws"]) == (n_trials, n_draws)
    spread = [means.std(ddof=1), means.min(), means.max()]
    assert found[SPREAD[1:]].tolist() == pytest.approx(spread)


def test_draws_that_are_all_there_are_widen_nothing() -> None:
    of_some, of_every = (over_draws(drawn_rows(9, 5, all_draws)) for all_draws in (False, True))
    for metric in ("x", "positive"):
        some: Any = of_some.loc[metric]
        every: Any = of_every.loc[metric]
        assert some["ci_low"] < every["ci_low"] <= every["mean"] <= every["ci_high"] < some["ci_high"]
        assert some["draw_sd"] == every["draw_sd"] > 0


def test_one_draw_of_several_has_no_interval_and_the_only_one_has() -> None:
    one, only = (over_draws(drawn_rows(9, 1, all_draws)) for all_draws in (False, True))
    assert one["ci_low"].isna().all() and one["ci_high"].isna().all() and one["se"].isna().all()
    assert only["ci_low"].notna().all() and (only["n_draws"] == 1).all()
    assert one["mean"].tolist() == only["mean"].tolist()


@light
@given(st.permutations(range(15)))
def test_the_order_of_draws_and_trials_does_not_matter(order: list[int]) -> None:
    rows = drawn_rows(5, 3)
    assert over_draws(rows.iloc[order]).to_csv() == over_draws(rows).to_csv()


@pytest.mark.parametrize(
    "spoil", [lambda r: r.drop(index=4), lambda r: r.assign(trial_id=r["trial_id"].replace("t01", "t00"))]
)
def test_a_trial_that_lacks_a_draw_or_stands_twice_is_refused(
    spoil: Callable[[pd.DataFrame], pd.DataFrame],
) -> None:
    with pytest.raises(ValueError, match=r"'a'\]: each trial_id is due once in every draw"):
        over_draws(spoil(drawn_rows(5, 3)))


@pytest.mark.parametrize(("n_trials", "n_draws"), [(6, 3), (14, 2), (14, 5), (14, 20), (30, 20)])
@pytest.mark.parametrize("sd", [(1.0, 1.0, 1.0), (0.2, 1.0, 0.5), (1.0, 0.2, 0.5)])
def test_intervals_over_trials_and_draws_cover_what_they_say(
    n_trials: int, n_draws: int, sd: tuple[float, float, float]
) -> None:
    # Effects of trials, of draws, and of both together. Of 400 repetitions, three standard errors are 3.3 points.
    rng = np.random.default_rng([n_trials, n_draws])
    n = 400
    parts = rng.normal(size=(n, 1, n_trials)), rng.normal(size=(n, n_draws, 1)), rng.normal(size=(n, n_draws, n_trials))
    x = sd[0] * parts[0] + sd[1] * parts[1] + sd[2] * parts[2]
    group, draw, trial = (index.ravel() for index in np.indices(x.shape))
    rows = pd.DataFrame({"name": group, "draw": draw, "trial_id": trial, "all_draws": False, "x": x.ravel()})
    found = grouped_means(rows, ["name"], {"x": Kind.mean}, "trial_id", StatsConfig(), 0, draw="draw")
    assert ((found["ci_low"] <= 0) & (found["ci_high"] >= 0)).mean() >= 0.93 - 0.033
