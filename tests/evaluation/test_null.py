"""The null: an analysis of a finished run, whose draws are made like its vectors, and permutation p-values."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from analysed import ANALYSED, asked, bytes_of, rest_of
from clusters import Shuffled
from conftest import MakeConfig
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import TinyRunIn

import fv
from fv.analyses import analyses_of
from fv.config import Config, StatsConfig, plain
from fv.errors import ConfigError
from fv.evaluation.evaluation import Evaluation, GridResults
from fv.evaluation.held_out import HeldOutRows
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.null import contrasts_of, null_table, permutation_table
from fv.runs.paths import RunPaths
from fv.steps import distributed
from fv.steps.analyses import run_analyse
from fv.steps.pipeline import run_pipeline

DRAWS = 20
Ask = Callable[..., Config]
MORE = {
    "evaluation.conditions.corrupted_prompts.enabled": True,
    "evaluation.conditions.refits.enabled": True,
    "evaluation.conditions.refits.draws": 2,
    "injection.layer": [1],
    "injection.alpha": [1, 2],
}


@pytest.fixture(scope="module")
def finished(make_config: MakeConfig, tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of a finished run, and its null."""
    results = tmp_path_factory.mktemp("null")
    run_pipeline(tiny_run_in(results)(ANALYSED, MORE))
    before = rest_of(paths_of(results).root)
    run_analyse(make_config(*asked(results, ["null"], f"analysis.null.draws={DRAWS}"), entrypoint="analyse"))
    assert rest_of(paths_of(results).root) == before
    return results


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return shutil.copytree(finished, tmp_path / "results")


@pytest.fixture
def again(make_config: MakeConfig, results: Path) -> Config:
    return make_config(*asked(results, ["null"], f"analysis.null.draws={DRAWS}"), entrypoint="analyse")


def paths_of(results: Path) -> RunPaths:
    return RunPaths(results / "relation" / "r")


# On a finished run


@pytest.mark.slow
def test_draws_are_dealt_to_the_relations_and_have_every_contrast_of_the_run(finished: Path) -> None:
    run = fv.open_run(finished / "relation" / "r")
    draws, null, p = (run.table(name) for name in ("null_draws", "null", "null_p"))
    numbers = draws[["q_id", "draw"]].drop_duplicates().sort_values(["q_id", "draw"])
    assert numbers.values.tolist() == [[q_id, draw] for q_id in ("antonym", "verb_past") for draw in range(10)]
    contrasts = run.table("contrasts")
    own = contrasts[(contrasts["subset"] == "all") & (contrasts["fv"] == contrasts["eval_qid"])]
    names = {*own[["condition", "minus", "metric"]].itertuples(index=False, name=None)}
    names |= {("fv", "zero_shot", metric) for metric in ("logprob", "logit_difference", "p", "answer_logprob", "top1")}
    for table in (draws, null):
        assert {*table[["condition", "minus", "metric"]].itertuples(index=False, name=None)} == names
    assert not draws.duplicated(["q_id", "draw", "condition", "minus", "metric"]).any()
    assert set(draws["n"]) == set(own["n"])
    assert {*p[["fv", "eval_qid"]].itertuples(index=False, name=None)} == {(q, q) for q in ("antonym", "verb_past")}
    assert p["p_greater"].min() >= 1 / (1 + DRAWS) and p["p_less"].min() >= 1 / (1 + DRAWS)
    declared = draws[(draws["minus"] == "corrupted_prompts") & (draws["metric"] == "logprob")]
    assert declared["mean"].nunique() == DRAWS
    figures = {path.name for path in paths_of(finished).analysis("null").glob("null.*")}
    assert figures >= {"null.csv", "null.json", "null.png", "null.svg"}


@pytest.mark.slow
def test_one_of_half_its_draws_that_is_stopped_goes_on_with_those_that_are_missing_to_the_same_bytes(
    results: Path, again: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paths_of(results)
    before, rest = bytes_of(paths.analyses), rest_of(paths.root)
    shutil.rmtree(paths.analysis("null"))
    units = sorted(paths.units.glob("null-*antonym*")) + sorted(paths.units.glob("null-*verb_past*"))
    assert len(units) == DRAWS
    for path in units[::2]:
        path.unlink()
    results_of, made = Evaluation.results, []

    def stopping(self: Evaluation, found: Any, rows: Any) -> Any:
        made.append(found)
        if len(made) == 4:
            raise KeyboardInterrupt
        return results_of(self, found, rows)

    monkeypatch.setattr(Evaluation, "results", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_analyse(again)
    assert not (paths.analysis("null") / "analysis_meta.json").exists()
    run_analyse(again)
    assert len(made) == 4 + DRAWS // 2 - 3
    assert bytes_of(paths.analyses) == before and rest_of(paths.root) == rest


@pytest.mark.slow
def test_draws_are_evaluated_on_the_runs_own_trials_in_their_parts(
    results: Path, again: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paths_of(results)
    asked_parts: dict[str, str] = {}
    shutil.rmtree(paths.analysis("null"))
    for path in sorted(paths.units.glob("null-*"))[:2]:
        path.unlink()
    results_of = Evaluation.results

    def noting(self: Evaluation, found: GridResults, rows: HeldOutRows) -> HeldOutResults:
        asked_parts.update(found.parts)
        return results_of(self, found, rows)

    monkeypatch.setattr(Evaluation, "results", noting)
    run_analyse(again)
    rows = fv.open_run(paths.root).table("eval_trials").drop_duplicates("trial_id").set_index("trial_id")["part"]
    assert asked_parts and asked_parts == {trial: rows[trial] for trial in asked_parts}
    assert set(asked_parts.values()) == {"dev", "test"}


@pytest.mark.cluster
def test_workers_give_the_same_bytes(results: Path, again: Config) -> None:
    paths = paths_of(results)
    before = bytes_of(paths.analyses)
    shutil.rmtree(paths.analysis("null"))
    for path in paths.units.glob("null-*"):
        path.unlink()
    again.cluster = Shuffled(seed=3)
    distributed.run_analyse(again)
    assert any(f": {DRAWS}" in stage for stage in again.cluster.seen)
    assert bytes_of(paths.analyses) == before


def test_fewer_draws_than_tell_one_in_twenty_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^null\.draws=19 must be 20 or more"):
        analyses_of({"null": {"draws": 19}})
    assert plain(analyses_of({"null": {"draws": 20}})["null"])["draws"] == 20


# Tables


def drawn(means: list[float], ses: list[float], **key: Any) -> pd.DataFrame:
    where: dict[str, Any] = {"condition": "fv", "minus": "corrupted_prompts", "metric": "logprob", "q_id": "a", **key}
    rows = pd.DataFrame({"mean": means, "se": ses}).assign(n=10, draw=range(len(means)), **where)
    return rows.assign(ci_low=rows["mean"] - 2 * rows["se"], ci_high=rows["mean"] + 2 * rows["se"])


numbers = st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 3)), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(one=st.tuples(st.integers(-8, 8), st.integers(1, 3)), null=numbers, other=numbers)
def test_p_counts_draws_as_far_in_standard_errors(
    one: tuple[int, int], null: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    draws = pd.concat(
        [drawn(*map(list, zip(*null, strict=True))), drawn(*map(list, zip(*other, strict=True)), metric="p")]
    )
    observed = drawn([one[0]], [one[1]]).assign(fv="v", eval_qid="a")
    (found,) = permutation_table(observed, draws).to_dict("records")
    # Whole numbers compare exactly: m / s against M / S is m * S against M * s.
    greater = sum(mean * one[1] >= one[0] * se for mean, se in null)
    less = sum(mean * one[1] <= one[0] * se for mean, se in null)
    n = len(null)
    assert found["p_greater"] == (1 + greater) / (1 + n) >= 1 / (1 + n)
    assert found["p_less"] == (1 + less) / (1 + n) >= 1 / (1 + n)
    assert (found["n_draws"], found["mean"], found["fv"]) == (n, one[0], "v")
    assert found["null_mean"] == pytest.approx(np.mean([mean for mean, _ in null]))


def test_a_planted_effect_has_the_least_possible_p_and_none_has_a_large_one() -> None:
    rng = np.random.default_rng(0)
    draws = pd.concat([drawn([*rng.normal(0, 0.3, 15)], [0.3] * 15, q_id=q_id) for q_id in "ab"])
    observed = drawn([4.0, -4.0, 0.0], [0.3] * 3).assign(fv=["high", "low", "none"], eval_qid="a")
    found: Any = permutation_table(observed, draws).set_index("fv")
    assert found.loc["high", "p_greater"] == found.loc["low", "p_less"] == 1 / 31
    assert found.loc["high", "p_less"] == found.loc["low", "p_greater"] == 1
    assert found.loc["none", ["p_greater", "p_less"]].min() > 0.2


def test_p_of_what_is_no_different_is_uniform() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(120):
        draws, observed = drawn([*rng.normal(size=20)], [1.0] * 20), drawn([rng.normal()], [1.0])
        found.append(permutation_table(observed.assign(fv="v", eval_qid="a"), draws)["p_greater"].item())
    # At most so many are at 1/21, 2/21 … by chance: four standard deviations.
    for level in (1 / 21, 5 / 21, 0.5):
        assert np.mean(np.array(found) <= level + 1e-9) <= level + 4 * np.sqrt(level * (1 - level) / 120) + 1 / 21


def test_contrasts_that_have_no_draw_or_no_error_have_no_p() -> None:
    draws = drawn([1.0, 2.0], [1.0, 1.0])
    for observed in (drawn([1.0], [1.0], metric="p"), drawn([1.0], [0.0])):
        assert permutation_table(observed.assign(fv="v", eval_qid="a"), draws).empty
    # Nothing that never varies, such as an accuracy of zero before and after, is as far as any other such.
    none = permutation_table(drawn([0.0], [0.0]).assign(fv="v", eval_qid="a"), drawn([0.0] * 20, [0.0] * 20))
    assert none[["p_greater", "p_less"]].values.tolist() == [[1.0, 1.0]]


def test_the_table_of_the_null_counts_intervals_without_zero() -> None:
    draws = drawn([3.0, 1.0, -3.0, 0.0], [1.0] * 4)
    (row,) = null_table(draws, StatsConfig()).to_dict("records")
    assert (row["n_draws"], row["excludes_zero"], row["above_zero"]) == (4, 0.5, 0.25)
    assert (row["lowest"], row["highest"], row["mean"]) == (-3, 3, 0.25)
    assert row["sd"] == pytest.approx(np.std([3, 1, -3, 0], ddof=1))
    # Clopper and Pearson of 2 in 4, from the binomial's tails.
    assert row["excludes_zero_ci_low"] == pytest.approx(0.0676, abs=1e-4)
    assert row["excludes_zero_ci_high"] == pytest.approx(0.9324, abs=1e-4)


@pytest.mark.slow
def test_the_contrasts_of_a_vector_are_those_of_the_run_and_its_change(finished: Path) -> None:
    run = fv.open_run(finished / "relation" / "r")
    means, contrasts = run.table("held_out"), run.table("contrasts")
    found = contrasts_of(means, contrasts, "antonym", "antonym").set_index(["condition", "minus", "metric"])
    own = contrasts[(contrasts["fv"] == "antonym") & (contrasts["eval_qid"] == "antonym")]
    own = own[own["subset"] == "all"].set_index(["condition", "minus", "metric"])
    change = means[(means["fv"] == "antonym") & (means["eval_qid"] == "antonym") & (means["condition"] == "fv")]
    change = change[change["subset"] == "all"].set_index("metric")
    columns = ["n", "mean", "se", "ci_low", "ci_high"]
    pd.testing.assert_frame_equal(found.loc[own.index, columns], own[columns])
    at: Any = found.loc
    assert (
        at[("fv", "zero_shot", "logprob"), columns].tolist() == change.loc["delta_logprob", columns].to_numpy().tolist()
    )
    assert len(found) == len(own) + 5
