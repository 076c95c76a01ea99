"""Intervals that hold the spread of refits: by hand, in tables of means and contrasts, and in a simulation."""

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from held_out_rows import trial_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.config import StatsConfig
from fv.evaluation.refits import minus_refits, refit_means, widened
from fv.evaluation.tables import contrasts_table, means_table
from fv.statistics.intervals import Kind

STATS = StatsConfig(n_resamples=100)
REFIT_OF = {"fv_refit": "fv", "corrupted_prompts_refit": "corrupted_prompts"}
N = 8


def one_mean(mean: float, se: float, low: float, high: float, metric: str = "x") -> pd.DataFrame:
    return pd.DataFrame([{"who": "a", "metric": metric, "mean": mean, "se": se, "ci_low": low, "ci_high": high}])


def refits_of(values: list[float], metric: str = "x") -> pd.DataFrame:
    return pd.DataFrame({"who": "a", "metric": metric, "draw": range(len(values)), "mean": values})


def rows_of(seed: int = 0, with_refits: bool = True) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    zero = rng.normal(-6, 1, N)
    scores: dict[tuple[str, str, int], np.ndarray] = {
        ("", "zero_shot", 0): zero,
        ("", "few_shot", 0): zero + 5,
        ("v", "fv", 0): zero + rng.normal(3, 1, N),
        ("v", "corrupted_prompts", 0): zero + rng.normal(1, 1, N),
        ("v", "bottom_heads", 0): zero + rng.normal(0, 1, N),
    }
    if with_refits:
        for draw in range(4):
            scores["v", "fv_refit", draw] = zero + rng.normal(2, 1) + rng.normal(0, 0.1, N)
            scores["v", "corrupted_prompts_refit", draw] = zero + rng.normal(1, 1) + rng.normal(0, 0.1, N)
    return trial_rows(scores, refit_of=REFIT_OF)


CONTRASTS = [("fv", "corrupted_prompts"), ("fv", "bottom_heads"), ("fv", "few_shot")]
IN_CONTRASTS = ["condition", "minus", "subset", "metric"]


def test_the_spread_of_refits_is_added_in_squares_on_each_side() -> None:
    found = widened(
        one_mean(2.0, 0.5, 1.0, 4.0), refits_of([1.0, 2.0, 6.0]), ["who", "metric"], {"x": Kind.mean}, STATS
    )
    (row,) = found.to_dict("records")
    sd = np.sqrt((4 + 1 + 9) / 2)
    half = 4.302652729911275 * sd  # Student's t of two degrees of freedom
    assert (row["n_refits"], row["refit_sd"]) == (3, pytest.approx(sd))
    assert row["mean"] == 2 and row["se"] == pytest.approx(np.sqrt(0.25 + sd**2))
    assert row["ci_low"] == pytest.approx(2 - np.sqrt(1 + half**2))
    assert row["ci_high"] == pytest.approx(2 + np.sqrt(4 + half**2))


@pytest.mark.parametrize("kind", Kind)
@given(
    mean=st.floats(0, 1),
    below=st.floats(0, 1),
    above=st.floats(0, 1),
    refits=st.lists(st.floats(0, 1), min_size=2, max_size=6),
)
@settings(max_examples=40, deadline=None)
def test_an_interval_never_narrows_and_proportions_stay_where_they_can_be(
    kind: Kind, mean: float, below: float, above: float, refits: list[float]
) -> None:
    before = one_mean(mean, 0.1, max(0.0, mean - below), min(1.0, mean + above))
    found = widened(before, refits_of(refits), ["who", "metric"], {"x": kind}, STATS)
    assert found["ci_low"].item() <= before["ci_low"].item() + 1e-12
    assert found["ci_high"].item() >= before["ci_high"].item() - 1e-12
    least = {Kind.proportion: 0, Kind.proportion_difference: -1}.get(kind, -np.inf)
    assert found["ci_low"].item() >= least and (kind is Kind.mean or found["ci_high"].item() <= 1)


def test_without_refits_nothing_changes() -> None:
    before = one_mean(2.0, 0.5, 1.0, 4.0)
    found = widened(before, refits_of([]), ["who", "metric"], {"x": Kind.mean}, STATS)
    pd.testing.assert_frame_equal(found[before.columns], before)
    assert found[["n_refits", "refit_sd"]].isna().all(axis=None)


def test_only_what_was_made_again_is_wider_in_the_table_of_means() -> None:
    with_, without = (means_table(rows_of(with_refits=given), STATS, 0) for given in (True, False))
    key = ["fv", "condition", "draw", "subset", "metric"]
    both = without.merge(with_, on=key, suffixes=("", "_with"))
    assert len(both) == len(without)
    remade = both["condition"].isin(["fv", "corrupted_prompts"])
    for end in ("mean", "se", "ci_low", "ci_high"):
        pd.testing.assert_series_equal(both[end][~remade], both[f"{end}_with"][~remade], check_names=False)
    changed = both[remade & (both["metric"] == "delta_logprob") & (both["subset"] == "all")]
    assert len(changed) == 2 and (changed["se_with"] > changed["se"]).all()
    assert set(changed["n_refits_with"]) == {4} and with_[with_["condition"] == "bottom_heads"]["n_refits"].isna().all()
    np.testing.assert_array_equal(changed["mean"], changed["mean_with"])


def test_a_contrast_takes_the_controls_refit_of_the_same_draw_and_none_where_it_has_none() -> None:
    rows = rows_of(3)
    found = contrasts_table(rows, CONTRASTS, STATS, 0)
    found = found[(found["metric"] == "logprob") & (found["subset"] == "all")].set_index("minus")
    mean = rows.groupby(["condition", "draw"])["logprob"].mean()
    own = [mean["fv_refit", draw] for draw in range(4)]
    control = [mean["corrupted_prompts_refit", draw] for draw in range(4)]
    assert found["refit_sd"]["corrupted_prompts"] == pytest.approx(np.std(np.subtract(own, control), ddof=1))
    for minus in ("bottom_heads", "few_shot"):
        assert found["refit_sd"][minus] == pytest.approx(np.std(own, ddof=1))
    assert set(found["n_refits"]) == {4}
    for minus in found.index:
        trials = rows[rows["condition"] == "fv"]["logprob"].to_numpy() - (
            rows[rows["condition"] == minus]["logprob"].to_numpy()
        )
        plain = np.std(trials, ddof=1) / np.sqrt(N)
        assert found["se"][minus] == pytest.approx(np.hypot(plain, found["refit_sd"][minus]))


def test_what_was_not_made_again_has_no_refits_of_a_control() -> None:
    refits = refit_means(in_all(rows_of(4)), ["fv", "eval_qid", "condition", "subset", "metric"], ["logprob"])
    names = ["fv", "eval_qid", "condition", "minus", "subset", "metric"]
    contrast = pd.DataFrame([["v", "a", "bottom_heads", "corrupted_prompts", "all", "logprob"]], columns=names)
    assert minus_refits(contrast, refits).empty


def in_all(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(subset="all")


def test_the_refits_means_are_of_each_draws_trials() -> None:
    rows = rows_of(5)
    found = refit_means(in_all(rows), ["fv", "eval_qid", "condition", "subset", "metric"], ["logprob", "p"])
    assert set(found["condition"]) == {"fv", "corrupted_prompts"} and len(found) == 2 * 4 * 2
    for row in found.to_dict("records"):
        own = rows[(rows["refit_of"] == row["condition"]) & (rows["draw"] == row["draw"])]
        assert row["mean"] == pytest.approx(own[row["metric"]].mean())


def test_the_interval_of_one_making_holds_the_mean_of_all_makings_only_where_it_is_widened() -> None:
    rng, n_makings, n, n_refits = np.random.default_rng(6), 2000, 20, 20
    truth, between, within = 1.5, 0.8, 1.2
    made = truth + between * rng.normal(size=n_makings)  # what the vector of each making does
    trials = made[:, None] + within * rng.normal(size=(n_makings, n))
    again = made[:, None] + between * rng.normal(size=(n_makings, n_refits))
    mean, se = trials.mean(1), trials.std(1, ddof=1) / np.sqrt(n)
    half = scipy.stats.t.ppf(0.975, n - 1) * se
    names = [f"m{i}" for i in range(n_makings)]
    table = pd.DataFrame({"who": names, "metric": "x", "mean": mean, "se": se})
    table = table.assign(ci_low=mean - half, ci_high=mean + half)
    refits = pd.DataFrame({"who": np.repeat(names, n_refits), "metric": "x", "mean": again.ravel()})
    found = widened(table, refits, ["who", "metric"], {"x": Kind.mean}, STATS)
    plain, wide = (((t["ci_low"] <= truth) & (truth <= t["ci_high"])).mean() for t in (table, found))
    assert plain < 0.6 and 0.93 <= wide <= 0.98
