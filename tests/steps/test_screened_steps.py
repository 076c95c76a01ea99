"""Screened runs: their files, what of them is exact, and that they end in the same bytes however they came about."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import TINY_QIDS
from tiny_runs import Settings, TinyRun, configured
from torch import Tensor

from fv.config import Config
from fv.errors import ArtifactError
from fv.interventions.engine import Head
from fv.interventions.gradient_scores import head_scores
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.runs.identity import identity
from fv.runs.paths import RunPaths
from fv.runs.run import Run, open_run
from fv.steps.pipeline import run_pipeline
from fv.steps.stepd import run_stepd

SCREENED = {
    "score.screen": "gradient",
    "score.k": 1,
    "score.verify": 1,
    "score.verify_random": 1,
    "stats.n_resamples": 100,
}
STEPD = ("cie_scores.csv", "aie_scores.csv", "cie_stats.csv", "cie_trials.npz", "screen_scores.csv")


def run_of(config: Config) -> Run:
    run_stepd(config)
    return open_run(RunPaths.of(config).root)


def bytes_of(config: Config) -> dict[str, bytes]:
    folder = RunPaths.of(config).artifacts
    return {name: (folder / name).read_bytes() for name in (*STEPD, "screen_report.json")}


def test_a_screened_run_measures_the_verified_heads_as_the_exact_run_does(tiny_run: TinyRun) -> None:
    exact = run_of(tiny_run(run_id="exact"))
    run = run_of(tiny_run(SCREENED))
    scores = run.table("screen_scores")
    verified = scores[scores["verified"] & (scores["ranking"] == "global")][["layer", "head"]]
    cie = run.table("cie_scores")
    assert 0 < len(verified) < 12
    for q_id in TINY_QIDS:
        own = cie[cie["q_id"] == q_id]
        assert own[["layer", "head"]].values.tolist() == verified.values.tolist()
        both = own.merge(exact.table("cie_scores"), on=["q_id", "layer", "head"])
        assert len(both) == len(own)
        for score in ("mean_delta_logprob", "mean_delta_p"):
            np.testing.assert_allclose(both[f"{score}_x"], both[f"{score}_y"], atol=1e-5)
    assert np.isnan(run.effects.effects["antonym"].delta_logprob).any()


def test_a_screened_run_tells_every_estimate_and_how_far_it_can_be_trusted(tiny_run: TinyRun) -> None:
    run = run_of(tiny_run(SCREENED))
    scores, report = run.table("screen_scores"), run.record("screen_report")
    assert list(scores.columns) == ["ranking", "layer", "head", "score", "verified", "chosen_by"]
    assert scores.groupby("ranking").size().to_dict() == dict.fromkeys(["global", *TINY_QIDS], 12)
    of_each = scores.pivot(index=["layer", "head"], columns="ranking", values="score")
    np.testing.assert_allclose(of_each["global"], of_each[TINY_QIDS].mean(axis=1), atol=1e-12)
    assert {"", "best"} <= {*scores["chosen_by"]} <= {"", "best", "negative", "random"}
    assert ((scores["chosen_by"] != "") == scores["verified"]).all()
    assert report["settings"] == {
        "method": "gradient",
        "points": None,
        "key": "mean_delta_logprob",
        "k": 1,
        "verify": 1,
        "verify_random": 1,
        "verify_max": None,
    }
    assert {*report["per_qid"]} == {*TINY_QIDS}
    assert report["n_verified"]["all"] == report["rounds"][-1]["n_verified"] == len(report["verified"])


def test_the_screen_of_a_run_is_read_back_as_it_was(tiny_run: TinyRun) -> None:
    run = run_of(tiny_run(SCREENED))
    screen = run.effects.screen
    assert screen is not None
    scores = run.table("screen_scores")
    for q_id in TINY_QIDS:
        own = scores[scores["ranking"] == q_id].drop(columns="ranking").reset_index(drop=True)
        pd.testing.assert_frame_equal(screen.table(q_id), own, check_exact=True)
    assert screen.about().items() <= run.record("screen_report").items()


def test_an_exact_run_has_no_screen(tiny_run: TinyRun) -> None:
    run = run_of(tiny_run())
    assert run.effects.screen is None
    assert not {"screen_scores.csv", "screen_report.json"} & {*run.hashes}


@pytest.mark.slow
def test_a_screened_pipeline_draws_its_random_heads_from_all(tiny_run: TinyRun) -> None:
    config = tiny_run(
        {"evaluation.held_out": True},
        SCREENED,
        {
            "data.n_eval_trials_per_q": 4,
            "analysis.cost.n_texts": 0,
            "injection.fv": "all_qids",
            "eval_scope.mode": "all_qids",
        },
    )
    run_pipeline(config)
    run = open_run(RunPaths.of(config).root)
    screen = run.effects.screen
    assert screen is not None and screen.unverified
    assert {"random_heads", "bottom_heads"} <= {*run.table("held_out")["condition"]}
    assert {*(run.vectors["antonym"].heads or ())} <= {*screen.verified}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"score.adaptive": True, "score.adaptive_step": 2}])
def test_a_run_that_was_killed_while_heads_were_verified_ends_in_the_same_bytes(
    tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    screened = tiny_run.but(SCREENED, {"compute.unit_trials": 1}, settings)
    whole = screened(run_id="whole")
    run_stepd(whole)
    config, calls = screened(), []

    def is_third(heads: Sequence[Head]) -> bool:
        calls.append(heads)
        return len(calls) > 2

    run_killed(config, monkeypatch, is_third)
    run_stepd(config)
    assert bytes_of(config) == bytes_of(whole)


def run_killed(config: Config, monkeypatch: pytest.MonkeyPatch, stops: Callable[[Sequence[Head]], bool]) -> None:
    """Run StepD until it is to sweep heads at which it `stops`."""
    real = SharedPrefixEngine.patch_heads

    def killed(*arguments: Any) -> object:
        if stops(arguments[3]):
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patching:
        patching.setattr(SharedPrefixEngine, "patch_heads", killed)
        with pytest.raises(KeyboardInterrupt):
            run_stepd(config)


def blind_to(layers: list[int]) -> Callable[..., Tensor]:
    """Scores of gradients, but all heads of some layers look alike and as if they had no effect."""

    def scores(*arguments: Any) -> Tensor:
        found = head_scores(*arguments).abs()
        found[:, layers] = 0.0
        return found

    return scores


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_widened_ends_in_the_same_bytes(
    tiny_run: TinyRun,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    screened = tiny_run.but(SCREENED, {"score.verify_random": 4})
    top = run_of(tiny_run(run_id="exact")).effects.mean().top(1)[0]
    monkeypatch.setattr("fv.interventions.halving.head_scores", blind_to([top.layer]))
    whole = run_of(screened(run_id="whole"))
    rounds = whole.record("screen_report")["rounds"]
    assert len(rounds) > 1 and rounds[0]["entered"]
    assert "Randomly verified heads are among the top 1" in caplog.text
    config, swept = screened(), set()

    def are_others(heads: Sequence[Head]) -> bool:
        swept.add(tuple(heads))
        return len(swept) > 1

    run_killed(config, monkeypatch, are_others)
    run_stepd(config)
    assert bytes_of(config) == bytes_of(screened(run_id="whole"))
    assert whole.effects.mean().top(1) == [top]


@pytest.mark.slow
@pytest.mark.parametrize("fewer", [{"data.qids": TINY_QIDS[:2]}, {"data.n_trials_per_q": 2}])
def test_a_screened_run_that_grew_is_the_run_of_all_at_once(tiny_run: TinyRun, fewer: Settings) -> None:
    few = tiny_run(SCREENED, fewer)
    run_stepd(few)
    run_stepd(tiny_run(SCREENED))
    at_once = tiny_run(SCREENED, run_id="at_once")
    run_stepd(at_once)
    assert bytes_of(few) == bytes_of(at_once)


def test_points_belong_to_a_run_whose_gradients_are_integrated() -> None:
    def identity_of(settings: Settings) -> dict[str, Any]:
        return identity(configured(settings))

    for method, differs in (("gradient", False), ("integrated", True)):
        few, many = (identity_of({"score.screen": method, "score.screen_points": n}) for n in (2, 3))
        assert (few != many) is differs
    assert identity_of({"score.verify": 77, "score.verify_random": 1}) == identity_of({})  # nothing is screened


@pytest.mark.slow
def test_a_complete_screened_run_is_not_run_again_and_another_screen_is_refused(
    tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    screened = tiny_run.but(SCREENED)
    run_stepd(screened())
    with caplog.at_level(logging.INFO):
        run_stepd(screened({"score.screen_points": 9}))  # says nothing of `gradient`
    assert "is complete already" in caplog.text
    for changed, key in (
        ({"score.verify": 2}, r"score\.verify: there 1, here 2"),
        ({"score.verify_random": 2}, r"score\.verify_random: there 1, here 2"),
        ({"score.screen": "integrated"}, r"score\.screen: there 'gradient', here 'integrated'"),
        ({"score.screen": "none"}, r"score\.screen: there 'gradient', here 'none'"),
    ):
        with pytest.raises(ArtifactError, match=key):
            run_stepd(screened(changed))


def test_verify_may_be_spelled_out(tiny_run: TinyRun, caplog: pytest.LogCaptureFixture) -> None:
    screened = tiny_run.but({"score.screen": "gradient", "score.k": 1, "score.verify_random": 0})
    run_stepd(screened())
    with caplog.at_level(logging.INFO):
        run_stepd(screened({"score.verify": 4}))
    assert "is complete already" in caplog.text


def test_a_screen_that_was_damaged_is_made_again_from_finished_pieces(
    tiny_run: TinyRun, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_run(SCREENED)
    run_stepd(config)
    before = bytes_of(config)
    (RunPaths.of(config).artifacts / "screen_report.json").write_text("{}")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run_stepd(config)
    assert bytes_of(config) == before
    assert not [line for line in caplog.messages if line.startswith("StepD") and line.endswith("done")]
