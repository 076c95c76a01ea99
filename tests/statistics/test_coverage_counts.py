"""What the benchmarks of intervals count: blocks of trials by hand, and the coverage that is due."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.coverage import contaminated, repeated, simulated, students, students_three
from benchmarks.null_relations import as_table_of_blocks, held_in_blocks
from fv.config import StatsConfig
from fv.statistics.intervals import estimate_means

QUICK = StatsConfig(n_resamples=300)


def differences(n: int, shift: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Of two contrasts, trial by trial."""
    rng = np.random.default_rng(seed)
    trials = pd.DataFrame({"trial": range(n)})
    return pd.concat(
        [
            trials.assign(condition="fv", minus=minus, logprob=rng.normal(shift, size=n), p=rng.normal(size=n))
            for minus in ("random_vector", "bottom_heads")
        ],
        ignore_index=True,
    )


def test_a_block_has_the_interval_of_its_own_trials_and_the_mean_of_all_others() -> None:
    rows = differences(35)
    found = held_in_blocks(rows, 10, QUICK, 4)
    assert len(found) == 2 * 2 * 3 and (found["n"] == 10).all()  # the last five trials fill no block
    own = rows[rows["minus"] == "bottom_heads"]["logprob"].to_numpy()
    of: Any = found[(found["minus"] == "bottom_heads") & (found["metric"] == "logprob")].set_index("block")
    due = estimate_means(own[None, 10:20], QUICK, 4, *range(10, 20))
    assert of.loc[1, ["mean", "ci_low", "ci_high"]].tolist() == [due.mean[0], due.ci_low[0], due.ci_high[0]]
    assert of.loc[1, "others"] == pytest.approx(np.delete(own[:30], np.arange(10, 20)).mean())
    held = (found["ci_low"] <= found["others"]) & (found["others"] <= found["ci_high"])
    assert found["holds_others"].tolist() == held.tolist()
    assert found["holds_zero"].tolist() == ((found["ci_low"] <= 0) & (found["ci_high"] >= 0)).tolist()


@pytest.mark.slow
def test_blocks_hold_the_others_mean_about_as_often_as_they_say_and_zero_only_where_it_is_the_truth() -> None:
    # 400 blocks a contrast; three standard errors of .95 are 3.3 points.
    for shift, zero in ((0.0, 0.95), (3.0, 0.0)):
        found = held_in_blocks(differences(8000, shift), 20, QUICK, 0)
        shares = found.groupby(["minus", "metric"])[["holds_others", "holds_zero"]].mean()
        assert shares["holds_others"].tolist() == pytest.approx([0.955] * 4, abs=0.035)
        log_p = shares.xs("logprob", level="metric")["holds_zero"]
        assert log_p.tolist() == pytest.approx([zero] * 2, abs=0.035)


def test_the_table_of_blocks_has_a_row_a_contrast_and_one_of_all() -> None:
    names, rows = as_table_of_blocks(held_in_blocks(differences(60), 20, QUICK, 0))
    assert [row[0] for row in rows] == ["fv − bottom_heads", "fv − random_vector", "all"]
    assert all(len(row) == len(names) == 5 for row in rows)
    one, other, every = (np.array(row[1]) for row in rows)
    assert every == pytest.approx((one + other) / 2)


def test_heavy_tails_are_simulated_about_a_mean_of_zero() -> None:
    rng = np.random.default_rng(0)
    wide = contaminated(rng, 200_000)
    assert wide.var() == pytest.approx(0.9 + 0.1 * 100, rel=0.05)
    assert students_three(rng, 200_000).mean() == pytest.approx(0, abs=0.02)
    for draw in (contaminated, students_three):
        held, by_t = (how(draw, 0.0, 10, 1000) for how in (simulated, students))
        assert by_t <= held and held >= 0.935


def test_repeated_queries_are_covered_by_query() -> None:
    by_trial, by_query = repeated(8, (3,), 500)
    assert by_trial < 0.9 < by_query
