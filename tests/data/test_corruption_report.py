"""What is said of corrupted prompts: counts as the trials have them, and warnings where they mean something else."""

import logging
import re
from pathlib import Path

import pytest
from conftest import MakeConfig
from hypothesis import given
from hypothesis import strategies as st
from relation_makers import light, noisy_pairs, numbered, relation, right_outputs, sample, seeds, snapshot_of
from tiny_runs import configured

from fv.config import Corruption, Split
from fv.data.corruption_report import corruption_report
from fv.data.relations import Pair, normalise
from fv.data.sampling import log_warnings
from fv.models.language_model import LanguageModel
from fv.steps.data import run_check


def of_outputs(*outputs: str, n: int = 24) -> list[Pair]:
    """`n` inputs with the outputs in turn."""
    return [Pair(f"thing {i}", outputs[i % len(outputs)]) for i in range(n)]


@light
@given(pairs=noisy_pairs, seed=seeds, policy=st.sampled_from(Corruption))
def test_the_counts_are_those_of_the_trials(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, policy: Corruption
) -> None:
    trials = sample(tiny_llama, relation(pairs), seed, allow_drop=True, corruption=policy).trials
    report = corruption_report(trials, 5)
    assert (report.q_id, report.n_trials, report.n_outputs) == ("q", len(trials), 5)
    how = [trial.corruption for trial in trials]
    assert (report.n_deranged, report.n_relation, report.n_permuted) == (
        how.count("deranged"),
        how.count("relation"),
        how.count("permuted"),
    )
    shown = [pair for t in trials for pair in (t.query, *t.demos)]
    right = [normalise(demo.exB) in right_outputs(shown, demo) for t in trials for demo in t.corrupted_demos]
    assert report.right == pytest.approx(sum(right) / len(right))
    for count, side in ((report.n_visible, "corrupted_demos"), (report.n_visible_clean, "demos")):
        answers = [(normalise(t.query.exB), {normalise(e.exB) for e in getattr(t, side)}) for t in trials]
        assert count == sum(answer in outputs for answer, outputs in answers)


@pytest.mark.parametrize(
    ("outputs", "policy", "told"),
    [
        (("yes", "no"), "derange", "2 distinct outputs.*every answer is flipped.* corruption=permute"),
        (("yes", "no", "perhaps"), "derange", "3 distinct outputs.*one of the wrong two.* corruption=permute"),
        (("a", "b", "c", "d"), "derange", None),
        (("yes", "no"), "permute", r"\d+% of the demonstrations.*mean over 7 trials"),
    ],
)
def test_few_outputs_and_right_ones_that_stay_are_warned_of_by_name(
    tiny_llama: LanguageModel,
    outputs: tuple[str, ...],
    policy: str,
    told: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    relations = [relation(of_outputs(*outputs), "few"), numbered(24, "many")]
    log_warnings(None, snapshot_of(tiny_llama, relations, corruption=Corruption(policy)))
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "few: " in r.getMessage()]
    if told is None:
        assert not lines
    else:
        (line,) = lines
        assert re.search(told, line)
    if policy == "derange":
        assert not any("many: " in r.getMessage() and "inverse" in r.getMessage() for r in caplog.records)


def test_a_few_demonstrations_of_many_outputs_are_not_few_outputs(
    tiny_llama: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    few = snapshot_of(tiny_llama, [numbered(24)], n_demos=1, n_trials_per_q=1, n_eval_trials_per_q=1)
    log_warnings(None, few)
    assert "inverse" not in caplog.text


def test_the_log_tells_of_draws_from_the_relation_and_of_visible_answers(
    tiny_llama: LanguageModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    mostly = relation([*of_outputs("a", n=30), *(Pair(f"other {i}", f"out {i}") for i in range(4))], "mostly")
    snapshot = snapshot_of(tiny_llama, [mostly, numbered(24, "plain")])
    log_warnings(None, snapshot)
    n = sum(t.corruption == "relation" for t in snapshot.trials)
    assert n
    assert f"mostly: the outputs of {n} of 7 corrupted prompts are drawn from the relation" in caplog.text
    visible = sum(t.target_in_corrupted for t in snapshot.trials)
    assert f"mostly: the right answer is visible in {visible} of 7 corrupted prompts" in caplog.text
    assert "plain: the outputs" not in caplog.text and "plain: the right" not in caplog.text


@pytest.mark.parametrize("policy", Corruption)
def test_the_snapshot_names_the_policy(tiny_llama: LanguageModel, policy: Corruption) -> None:
    assert snapshot_of(tiny_llama, [numbered(12)], corruption=policy).meta.corruption == policy.value


def test_the_check_shows_how_prompts_were_corrupted_and_warns_by_name(
    tiny_llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "two.csv"
    rows = [f"truth,{pair.exA},{pair.exB}" for pair in of_outputs("yes", "no", n=60)]
    path.write_text("\n".join(["q_id,exA,exB", *rows]), encoding="utf-8")
    run_check(configured({"model.path": tiny_llama_folder, "data.path": path}))
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        {"deranged", "permuted"} <= {*printed.split()}
        and "truth: 2 distinct outputs" in printed
        and "flipped" in printed
    )
    assert "data.corruption=permute" in printed.replace("\n", " ")


def test_both_policies_are_a_setting_of_the_run(make_config: MakeConfig) -> None:
    assert make_config().data.corruption is Corruption.derange
    config = make_config("data.corruption=permute", "data.split=shared")
    assert (config.data.corruption, config.data.split) == (Corruption.permute, Split.shared)
    assert config.resolved()["data"]["corruption"] == "permute"
