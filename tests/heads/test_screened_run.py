"""Screened effects: exact where verified, the same heads for every relation, and wider where chance finds a head."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from families import tiny_editable
from torch import Tensor

import fv
from fv.config import ScoreConfig, Screen, StatsConfig
from fv.data.prompts import prompt_of
from fv.errors import ConfigError
from fv.heads.effects import Effects
from fv.heads.measurement import Measurement
from fv.heads.ranking import Ranking, heads_to_sweep
from fv.heads.relations import effects_flow
from fv.heads.screen import Screen as Screening
from fv.heads.screen_report import screen_report
from fv.heads.verification import Chosen
from fv.interventions.editable import EditableModel
from fv.interventions.engine import Head, PatchScores
from fv.interventions.engines import make_engine
from fv.interventions.naive import NaiveEngine
from fv.interventions.prompt_batch import PromptBatch
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.prompt import Prompt
from fv.work.driver import SERIAL

QUIET = fv.Compute(progress=False)

N_LAYERS, N_HEADS, N_TRIALS = 3, 8, 5
ALL = heads_to_sweep("all", "all", N_LAYERS, N_HEADS)
K = 2


@pytest.fixture(scope="module")
def lm() -> EditableModel:
    sizes = {"num_attention_heads": N_HEADS, "num_hidden_layers": N_LAYERS, "max_position_embeddings": 128}
    return replace(tiny_editable("llama", **sizes), fingerprint={"tokenizer_sha256": "0" * 64})


@pytest.fixture(scope="module")
def trials(lm: EditableModel) -> fv.Trials:
    pairs = [(f"{a}{b}", f"{b}{a}") for a, b in zip("abcdefghijkl", "mnopqrstuvwx", strict=True)]
    return fv.sample_trials(
        {"one": pairs, "two": [pair[::-1] for pair in pairs]}, lm, demos=2, fit=N_TRIALS, held_out=1
    )


@pytest.fixture(scope="module")
def exact(lm: EditableModel, trials: fv.Trials) -> Effects:
    return fv.indirect_effects(lm, trials, compute=QUIET)


def score_of(**settings: Any) -> ScoreConfig:
    return ScoreConfig(**{"k": K, "screen": Screen.gradient, "verify": K, "verify_random": 4, **settings})


Estimate = Callable[[Sequence[Prompt], Tensor], Tensor]
"""Estimated effects of every head on prompts, (n_prompts, n_layers, n_heads), given what is patched in."""


class Estimating(SharedPrefixEngine):
    """Has estimates of its own."""

    def __init__(self, lm: EditableModel, estimate: Estimate) -> None:
        super().__init__(lm, 256)
        self.estimate = estimate

    def head_scores(self, prompts: Sequence[Prompt], head_values: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.estimate(prompts, head_values)


def effects_by(lm: EditableModel, trials: fv.Trials, estimate: Estimate, score: ScoreConfig) -> Effects:
    """The effects that a screen by these estimates finds."""
    return effects_of(Measurement(lm, trials.snapshot, ALL, Estimating(lm, estimate), score, seed=3))


def effects_of(how: Measurement) -> Effects:
    return SERIAL.run(effects_flow(how, StatsConfig(n_resamples=100)), "screened")


def oracle(lm: EditableModel, wrong: Callable[[np.ndarray], None] = lambda _: None) -> Estimate:
    """Estimates that are the naive engine's effects, but for what `wrong` does to them, (n, n_layers, n_heads)."""

    def estimate(prompts: Sequence[Prompt], values: Tensor) -> Tensor:
        found = NaiveEngine(lm).patch_heads(prompts, values, ALL)
        scores = (found.patched - found.unpatched).reshape(-1, N_LAYERS, N_HEADS).numpy()
        wrong(scores)
        return torch.from_numpy(scores)

    return estimate


def screen_of(effects: Effects) -> Screening:
    assert effects.screen is not None
    return effects.screen


def heads_with_effects(effects: Effects, q_id: str) -> set[Head]:
    return {Head(*head) for head in effects[q_id].table[["layer", "head"]].values.tolist()}


@pytest.mark.parametrize(
    ("method", "engine"),
    [("gradient", "auto"), ("integrated", "auto"), ("gradient", "naive"), ("gradient", "expanded")],
)
def test_verified_heads_have_their_exact_effects_and_others_none(
    lm: EditableModel, trials: fv.Trials, exact: Effects, method: str, engine: str
) -> None:
    found = fv.indirect_effects(
        lm, trials, screen=method, verify=2, verify_random=3, compute=fv.Compute(engine=engine, max_rows=80)
    )
    verified = screen_of(found).verified
    assert 0 < len(verified) < len(ALL)
    for q_id in ("one", "two"):
        assert heads_with_effects(found, q_id) == {*verified}
        known = found.effects[q_id].swept
        np.testing.assert_allclose(
            found.effects[q_id].delta_logprob[:, known], exact.effects[q_id].delta_logprob[:, known], atol=1e-5
        )
        torch.testing.assert_close(found.means[q_id].corrupted, exact.means[q_id].corrupted, atol=1e-5, rtol=0)
    pd.testing.assert_frame_equal(found.prompts, exact.prompts, rtol=1e-5)


def test_the_top_heads_are_those_of_the_exact_sweep_where_estimates_find_them(
    lm: EditableModel, trials: fv.Trials, exact: Effects
) -> None:
    found = effects_by(lm, trials, oracle(lm), score_of())
    assert all(found[q_id].top(K) == exact[q_id].top(K) for q_id in exact)
    assert found.mean().top(K) == exact.mean().top(K)
    (only,) = screen_of(found).rounds
    assert (only.verify, only.entered) == (K, ())


def test_the_estimates_are_kept_trial_by_trial_means_and_agree_with_the_effects(
    lm: EditableModel, trials: fv.Trials, exact: Effects
) -> None:
    found = effects_by(lm, trials, oracle(lm), score_of())
    for q_id, score in screen_of(found).scores.items():
        np.testing.assert_allclose(score, exact.effects[q_id].delta_logprob.mean(0), atol=1e-5)
    report = screen_report(screen_of(found), found.cie, found.stats)
    assert all((own["spearman"] or 0) > 0.99 for own in (report["global"], *report["per_qid"].values()))


def blind(layer: int) -> Callable[[np.ndarray], None]:
    """A layer whose heads look as if they had no effect."""

    def wrong(scores: np.ndarray) -> None:
        scores[:] = np.abs(scores)  # all else above it
        scores[:, layer] = np.linspace(0, 1e-9, N_HEADS)

    return wrong


def best_layer(exact: Effects) -> int:
    return exact.mean().top(1)[0].layer


@pytest.mark.slow
def test_a_layer_that_the_estimates_cannot_see_is_found_by_the_random_heads(
    lm: EditableModel, trials: fv.Trials, exact: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    estimate = oracle(lm, blind(best_layer(exact)))
    with caplog.at_level("INFO"):
        found = effects_by(lm, trials, estimate, score_of(verify_random=12))
    first, *later = screen_of(found).rounds
    assert first.entered and later and [one.verify for one in later] == [2 * K * 2**i for i in range(len(later))]
    assert not later[-1].entered or later[-1].n_verified == len(ALL)
    assert f"verifying the best {2 * K}" in caplog.text
    assert all(found[q_id].top(K) == exact[q_id].top(K) for q_id in exact)
    # Without random heads nothing is noticed.
    unnoticed = effects_by(lm, trials, estimate, score_of(verify_random=0))
    assert len(screen_of(unnoticed).rounds) == 1
    assert unnoticed.mean().top(K) != exact.mean().top(K)


def test_widening_patches_the_new_heads_only(
    lm: EditableModel, trials: fv.Trials, exact: Effects, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched: list[tuple[Head, ...]] = []
    real = SharedPrefixEngine.patch_heads

    def spy(*arguments: Any) -> PatchScores:
        patched.append(tuple(arguments[3]))
        return real(*arguments)

    monkeypatch.setattr(SharedPrefixEngine, "patch_heads", spy)
    found = effects_by(lm, trials, oracle(lm, blind(best_layer(exact))), score_of(verify_random=12))
    sweeps = list(dict.fromkeys(patched))
    assert len(sweeps) > 1
    together = [head for sweep in sweeps for head in sweep]
    assert sorted(together) == list(screen_of(found).verified)  # each once


@pytest.mark.parametrize(("keep_mb", "times"), [(64, 1), (0, 2)])
def test_prompts_that_are_kept_run_once_and_others_twice_to_the_same_numbers(
    lm: EditableModel,
    trials: fv.Trials,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    keep_mb: int,
    times: int,
) -> None:
    caplog.set_level("INFO")
    ran: list[tuple[Prompt, ...]] = []

    class Counted(PromptBatch):
        def __init__(self, lm: EditableModel, prompts: Sequence[Prompt]) -> None:
            ran.append(tuple(prompts))
            super().__init__(lm, prompts)

    monkeypatch.setattr("fv.interventions.shared_prefix.PromptBatch", Counted)
    engine, score = make_engine(lm, "shared_prefix", 256), score_of(verify_random=0)
    found = effects_of(Measurement(lm, trials.snapshot, ALL, engine, score, seed=3, keep_mb=keep_mb))
    corrupted = {prompt_of(lm, trials.snapshot, trial, "corrupted") for trial in trials.fit}
    of_corrupted = [batch for batch in ran if {*batch} <= corrupted]
    assert of_corrupted and {of_corrupted.count(batch) for batch in of_corrupted} == {times}
    assert (f"0 prompts were kept in 0 MB; {len(corrupted)} that did not fit" in caplog.text) is (times == 2)
    again = make_engine(lm, "shared_prefix", 256)
    other = effects_of(Measurement(lm, trials.snapshot, ALL, again, score, seed=3))
    assert other.cie.equals(found.cie)


def test_no_more_is_verified_than_the_bound_allows(
    lm: EditableModel, trials: fv.Trials, exact: Effects, caplog: pytest.LogCaptureFixture
) -> None:
    estimate = oracle(lm, blind(best_layer(exact)))
    found = effects_by(lm, trials, estimate, score_of(verify_random=12, verify_max=3))
    assert [one.verify for one in screen_of(found).rounds] in ([2], [2, 3])
    if screen_of(found).rounds[-1].entered:
        assert "others may be missed" in caplog.text


def test_only_heads_that_may_be_swept_are_screened_and_verified(lm: EditableModel, trials: fv.Trials) -> None:
    found = fv.indirect_effects(
        lm,
        trials,
        layers=[1],
        heads=[0, 2, 3, 5],
        screen="gradient",
        verify=1,
        verify_random=0,
        compute=QUIET,
    )
    assert screen_of(found).candidates == [Head(1, 0), Head(1, 2), Head(1, 3), Head(1, 5)]
    assert {*screen_of(found).verified} <= {*screen_of(found).candidates}


def test_random_controls_may_draw_any_screened_head_and_rankings_hold_the_verified(
    lm: EditableModel, trials: fv.Trials
) -> None:
    found = effects_by(lm, trials, oracle(lm), score_of(verify_random=1))
    made_of = found.heads_of("one", Ranking("mean_delta_logprob", K), K)
    verified = {*screen_of(found).verified}
    assert {*made_of.ranking} == verified
    assert {*made_of.unverified} == {*ALL} - verified != set()
    assert sorted(made_of.every) == ALL


def test_adaptive_trials_are_the_same_for_heads_that_are_added(
    lm: EditableModel, trials: fv.Trials, exact: Effects
) -> None:
    adaptive = {"adaptive": True, "adaptive_step": 4, "adaptive_inclusion": 1e-9, "verify_random": 12}
    found = effects_by(lm, trials, oracle(lm, blind(best_layer(exact))), score_of(**adaptive))
    assert len(screen_of(found).rounds) > 1
    for q_id, own in found.effects.items():
        assert own.n_trials == 4
        np.testing.assert_allclose(
            own.delta_logprob[:, own.swept], exact.effects[q_id].delta_logprob[: own.n_trials, own.swept], atol=1e-5
        )


def test_screened_effects_come_back_from_their_file(lm: EditableModel, trials: fv.Trials, tmp_path: Path) -> None:
    found = effects_by(lm, trials, oracle(lm, blind(0)), score_of(verify_random=6))
    found.save(tmp_path / "effects.safetensors")
    loaded = fv.load_effects(tmp_path / "effects.safetensors")
    one, other = screen_of(found), screen_of(loaded)
    assert (one.settings, one.verified, one.rounds) == (other.settings, other.verified, other.rounds)
    assert all(np.array_equal(one.scores[q_id], other.scores[q_id], equal_nan=True) for q_id in one.scores)
    assert loaded.cie.equals(found.cie)


def test_the_report_counts_random_heads_and_bounds_what_was_missed(
    lm: EditableModel, trials: fv.Trials, exact: Effects
) -> None:
    found = effects_by(
        lm, trials, oracle(lm, blind(best_layer(exact))), score_of(verify_random=5, verify_max=K, verify=K)
    )
    screen = screen_of(found)
    report = screen_report(screen, found.cie, found.stats)
    chance = {head for head, why in screen.verified.items() if why is Chosen.random}
    assert report["n_verified"]["random"] == len(chance) == 5
    assert report["n_heads"] == len(ALL) and report["n_verified"]["all"] == len(screen.verified)
    for q_id, own in report["per_qid"].items():
        n_in_top = len(chance & {*found[q_id].top(K)})
        assert own["n_random_in_top"] == n_in_top
        # Clopper and Pearson: so few or fewer in the top have a chance of half of what the level leaves.
        share, n = own["share_missed_at_most"], len(chance)
        assert share is not None
        at_most = sum(
            math.prod([(n - i) / (i + 1) for i in range(x)]) * share**x * (1 - share) ** (n - x)
            for x in range(n_in_top + 1)
        )
        assert at_most == pytest.approx((1 - found.stats.confidence) / 2)
    assert "does not say" in report["what_the_bound_does_not_say"]


def test_a_report_without_random_heads_bounds_nothing_and_of_all_heads_misses_nothing(
    lm: EditableModel, trials: fv.Trials
) -> None:
    for settings, bound in (({"verify_random": 0}, None), ({"verify": len(ALL)}, 0.0)):
        found = effects_by(lm, trials, oracle(lm), score_of(**settings))
        report = screen_report(screen_of(found), found.cie, found.stats)
        assert report["global"]["share_missed_at_most"] == bound


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"screen": "auto"}, r"screen='auto' must be one of none, gradient, integrated"),
        ({"screen": "gradient", "verify": 0}, r"verify=0 must be a whole number of 1 or more, or None for 40"),
        ({"screen": "gradient", "verify_random": -1}, r"verify_random=-1 must be a whole number of 0 or more"),
    ],
)
def test_wrong_arguments_are_named(
    lm: EditableModel, trials: fv.Trials, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        fv.indirect_effects(lm, trials, **arguments)


def test_more_heads_than_were_verified_make_no_vector(lm: EditableModel, trials: fv.Trials) -> None:
    found = effects_by(lm, trials, oracle(lm), score_of())
    n_verified = len(screen_of(found).verified)
    assert len(fv.function_vector(lm, found["one"], n_verified).heads) == n_verified
    with pytest.raises(ConfigError, match=rf"k={n_verified + 1} is more than the {n_verified} heads"):
        fv.function_vector(lm, found["one"], n_verified + 1)


def test_all_heads_are_measured_unless_a_screen_is_asked_for(exact: Effects) -> None:
    assert exact.screen is None
    assert heads_with_effects(exact, "one") == {*ALL}
