"""Answers held out with their queries: no fit prompt shows one, and what is left can still be fitted on."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import DEFAULT_CSV
from hypothesis import given
from hypothesis import strategies as st
from relation_makers import are_kin, light, noisy_pairs, numbered, relation, sample, seeds, snapshot_of

from fv.config import Config, DataConfig, HoldOut, Split
from fv.data.encoder import Encoder
from fv.data.relation_sampler import RelationSampler
from fv.data.relations import Pair, normalise, read_configured
from fv.data.sample_trials import sample_trials
from fv.data.sampling import sample_snapshot
from fv.data.shown_answers import answers_shown
from fv.data.snapshot import Snapshot, read_snapshot, write_snapshot
from fv.data.token_report import token_report
from fv.errors import TrialError
from fv.models.language_model import LanguageModel
from fv.runs.identity import identity

OUTPUTS: dict[str, Any] = {"hold_out": HoldOut.outputs}
# Outputs that repeat and are spelled differently, beside pairs that are kin.
spelled = st.sampled_from([spell(f"out {letter}") for letter in "abcdefgh" for spell in (str, str.upper, str.title)])
repeating = st.builds(
    lambda outputs, extra: [*(Pair(f"in {i}", output) for i, output in enumerate(outputs)), *extra],
    st.lists(spelled, min_size=16, max_size=30),
    noisy_pairs,
)


def outputs_in(prompt: str) -> set[str]:
    """The outputs that a prompt's text shows, in normal form."""
    return {normalise(line) for line in re.findall(r"^A: (.*)$", prompt, flags=re.MULTILINE)}


# Which answers are shown


@light
@given(pairs=repeating, seed=seeds, n_fit=st.integers(1, 8))
def test_an_answer_is_shown_where_the_text_of_a_fit_prompt_or_its_answer_has_it(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, n_fit: int
) -> None:
    snapshot = snapshot_of(tiny_llama, [relation(pairs), numbered(12, "r")], seed, n_trials_per_q=n_fit, n_demos=2)
    shown: set[str] = set()
    for trial in snapshot.of("q", "fit"):
        shown |= outputs_in(trial.clean_prompt_str + trial.target_str)
    found = answers_shown(snapshot, "q")
    assert found == {t.trial_id: normalise(t.target_str) in shown for t in snapshot.of("q", "eval")}
    assert len(found) == 3 and answers_shown(snapshot, "r").keys() == {t.trial_id for t in snapshot.of("r", "eval")}


def test_of_a_shared_split_every_answer_is_shown(tiny_llama: LanguageModel) -> None:
    snapshot = snapshot_of(tiny_llama, [numbered(5)], n_trials_per_q=9, split=Split.shared)
    assert answers_shown(snapshot, "q") == {f"q:fit:{i:04d}": True for i in range(9)}


# Outputs held out


@light
@given(pairs=repeating, seed=seeds, n_demos=st.integers(1, 4), n_fit=st.sampled_from([4, 12, 30]))
def test_no_answer_that_is_held_out_stands_in_any_prompt(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, n_demos: int, n_fit: int
) -> None:
    asked = {**OUTPUTS, "n_demos": n_demos, "n_trials_per_q": n_fit, "allow_drop": True}
    snapshot = snapshot_of(tiny_llama, [relation(pairs)], seed, **asked)
    held_out = snapshot.of("q", "eval")
    assert held_out and len(snapshot.of("q", "fit")) == n_fit
    answers = {normalise(trial.query.exB) for trial in held_out}
    for trial in snapshot.trials:
        assert not answers & (outputs_in(trial.clean_prompt_str) | outputs_in(trial.corrupted_prompt_str))
    assert not answers & {normalise(trial.query.exB) for trial in snapshot.of("q", "fit")}
    assert not any(answers_shown(snapshot, "q").values())
    # What holds of held-out queries holds of these.
    fitted = [pair for trial in snapshot.of("q", "fit") for pair in (trial.query, *trial.demos)]
    assert not any(are_kin(trial.query, pair) for trial in held_out for pair in fitted)
    assert not any(are_kin(a.query, b.query) for a in held_out for b in held_out if a is not b)


@pytest.mark.parametrize("q_id", ["country_continent", "last_letter", "country_currency", "element_symbol"])
def test_shipped_relations_of_few_outputs_can_hold_them_out(tiny_llama: LanguageModel, q_id: str) -> None:
    data = DataConfig(relation_csv_path=str(DEFAULT_CSV), qids=[q_id], **OUTPUTS)
    snapshot = sample_snapshot(read_configured(data), data, 42, tiny_llama)
    assert (len(snapshot.of(q_id, "fit")), len(snapshot.of(q_id, "eval"))) == (36, 16)
    assert not any(answers_shown(snapshot, q_id).values())
    assert len({trial.query.exB for trial in snapshot.of(q_id, "eval")}) > 1


def test_where_every_output_is_there_once_it_is_as_if_queries_were_held_out(tiny_llama: LanguageModel) -> None:
    by_query, by_output = (
        sample(tiny_llama, numbered(40), n_trials_per_q=20, hold_out=hold_out).trials for hold_out in HoldOut
    )
    assert by_query == by_output


def test_a_relation_of_two_outputs_is_refused_with_the_way_out(tiny_llama: LanguageModel) -> None:
    yes_or_no = [Pair(f"in {i}", "yes" if i % 2 else "no") for i in range(40)]
    with pytest.raises(TrialError) as caught:
        sample_trials({"q": yes_or_no}, tiny_llama, demos=3, hold_out="outputs")
    assert "q: 0 of 16 eval trials" in str(caught.value)
    assert "With hold_out=queries, which holds out pairs and not answers, it can give all." in str(caught.value)
    config = Config(data=DataConfig(n_demos=3, **OUTPUTS))
    with pytest.raises(TrialError, match=r"(?s)\(data\.hold_out=outputs\).*With data\.hold_out=queries, "):
        RelationSampler(relation(yes_or_no), config.data, 0, Encoder(tiny_llama, special=False)).sample()
    trials = sample_trials({"q": yes_or_no}, tiny_llama, demos=3)
    assert all(answers_shown(trials.snapshot, "q").values())


def test_the_way_out_is_not_named_where_it_is_none(tiny_llama: LanguageModel) -> None:
    with pytest.raises(TrialError) as caught:
        sample(tiny_llama, numbered(6), n_demos=10, **OUTPUTS)
    assert "hold_out=queries" not in str(caught.value)


@pytest.mark.slow
@light
@given(outputs=st.lists(st.sampled_from("abcdefghij"), min_size=20, max_size=30), seed=seeds)
def test_the_most_eval_trials_that_are_told_can_be_sampled_and_no_more(
    tiny_llama: LanguageModel, outputs: list[str], seed: int
) -> None:
    of = relation([Pair(f"in {i}", output) for i, output in enumerate(outputs)])
    asked: dict[str, Any] = {**OUTPUTS, "n_demos": 2, "n_trials_per_q": 5, "n_eval_trials_per_q": 1}
    most = token_report(of, DataConfig(**asked), seed, Encoder(tiny_llama, special=False)).capacity
    for n_eval, n_demos in ((most.eval, 2), (1, most.demos)):
        if n_eval and n_demos:
            sample(tiny_llama, of, seed, **{**asked, "n_eval_trials_per_q": n_eval, "n_demos": n_demos})
    for n_eval, n_demos in ((most.eval + 1, 2), (1, most.demos + 1)):
        with pytest.raises(TrialError):
            sample(tiny_llama, of, seed, **{**asked, "n_eval_trials_per_q": n_eval, "n_demos": n_demos})


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"hold_out": "answers"}, "hold_out='answers' must be one of queries, outputs"),
        ({"hold_out": "outputs", "held_out": 0}, "hold_out='outputs' has no effect with held_out=0"),
    ],
)
def test_what_cannot_be_held_out_is_refused(tiny_llama: LanguageModel, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(TrialError, match=told):
        sample_trials({"q": list(numbered(40).pairs)}, tiny_llama, **asked)


# What is recorded


def test_the_snapshot_says_what_is_held_out(tiny_llama: LanguageModel, tmp_path: Path) -> None:
    snapshot: Snapshot = snapshot_of(tiny_llama, [numbered(30)], **OUTPUTS)
    path = tmp_path / "trials.json"
    write_snapshot(path, snapshot)
    assert snapshot.meta.hold_out == "outputs" and read_snapshot(path) == snapshot


def test_what_is_held_out_decides_a_runs_results() -> None:
    assert identity(Config())["data.hold_out"] == "queries"
    assert identity(Config(data=DataConfig(**OUTPUTS))) != identity(Config())
    assert "data.hold_out" not in identity(Config(data=DataConfig(split=Split.shared)))
