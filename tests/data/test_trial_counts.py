"""Trials are as many as asked, or it is said why not (spec section 5)."""

from typing import Any

import pytest
from relation_makers import (
    BASE,
    numbered,
    relation,
    sample,
    snapshot_of,
)

from fv.config import Split
from fv.data.relations import Pair
from fv.errors import TrialError
from fv.models.language_model import LanguageModel


def test_each_split_has_as_many_trials_as_asked_numbered_in_order(tiny_lm: LanguageModel) -> None:
    trials = sample(tiny_lm, numbered(20), n_trials_per_q=3, n_eval_trials_per_q=2).trials
    assert [trial.trial_id for trial in trials] == [
        *("q:fit:0000", "q:fit:0001", "q:fit:0002"),
        *("q:eval:0000", "q:eval:0001"),
    ]
    assert [trial.split for trial in trials] == ["fit"] * 3 + ["eval"] * 2


def test_a_shared_split_has_no_eval_trials_and_keeps_every_pair_for_fitting(tiny_llama: LanguageModel) -> None:
    result = sample(tiny_llama, numbered(6), split=Split.shared, n_trials_per_q=6)
    assert (result.count("fit"), result.count("eval")) == (6, 0)
    assert snapshot_of(tiny_llama, [numbered(6)], split=Split.shared).eval_split == "fit"


def test_the_smallest_relation_that_can_give_all_gives_all(tiny_llama: LanguageModel) -> None:
    asked: dict[str, Any] = {"n_trials_per_q": 4, "n_demos": 3, "n_eval_trials_per_q": 3}
    result = sample(tiny_llama, numbered(7), **asked)
    assert (result.count("fit"), result.count("eval")) == (4, 3)
    with pytest.raises(TrialError, match="q: 2 of 3 eval trials"):
        sample(tiny_llama, numbered(6), **asked)


def test_too_few_trials_fail_with_the_relation_the_counts_and_the_way_out(tiny_llama: LanguageModel) -> None:
    with pytest.raises(TrialError) as caught:
        sample(tiny_llama, numbered(3, "plural"), n_trials_per_q=12, n_demos=10, n_eval_trials_per_q=16)
    message = str(caught.value)
    for part in ("plural: 0 of 12 fit trials", "3 pairs", "10 demonstrations", "16 held-out", " allow_drop=true"):
        assert part in message
    assert "3 candidates were rejected" in message and "but there are 2 unrelated demonstrations" in message


def test_at_most_three_reasons_are_given_and_all_rejections_counted(tiny_llama: LanguageModel) -> None:
    result = sample(tiny_llama, numbered(6), n_demos=10, allow_drop=True)
    assert (result.n_rejected, len(result.reasons), result.trials) == (6, 3, [])


def test_a_prompt_longer_than_the_model_takes_is_rejected_with_the_reason(tiny_lm: LanguageModel) -> None:
    long = Pair("word " * 600, "too long")
    result = sample(
        tiny_lm, relation([long, *BASE[:4]]), n_demos=1, split=Split.shared, n_trials_per_q=5, allow_drop=True
    )
    assert result.n_rejected >= 1
    assert all(trial.query.exA != long.exA for trial in result.trials)
    assert f"and the model takes {tiny_lm.max_tokens}" in result.reasons[0]


@pytest.mark.parametrize("seed", range(4))
def test_one_long_pair_does_not_cost_a_large_relation_its_trials(tiny_llama: LanguageModel, seed: int) -> None:
    # Alone the long pair fits the model's 512 tokens; beside demonstrations it does not.
    pairs = [Pair("word " * 480, "long"), *(Pair(f"some input {i}", f"out {i}") for i in range(60))]
    result = sample(tiny_llama, relation(pairs), seed, n_trials_per_q=4, n_demos=10, n_eval_trials_per_q=6)
    assert (result.count("fit"), result.count("eval")) == (4, 6)


def test_allow_drop_goes_on_with_fewer_and_records_it(tiny_llama: LanguageModel) -> None:
    relations = [numbered(20, "large"), numbered(5, "small"), numbered(2, "tiny")]
    snapshot = snapshot_of(tiny_llama, relations, allow_drop=True)
    counts = {q_id: (c.fit_asked, c.fit, c.eval_asked, c.eval) for q_id, c in snapshot.meta.counts.items()}
    assert counts == {"large": (4, 4, 3, 3), "small": (4, 4, 3, 1), "tiny": (4, 0, 3, 0)}
    assert snapshot.meta.dropped_qids == ["tiny"]
    assert snapshot.qids == ["large", "small"]
    assert len(snapshot.of("small", "eval")) == 1
    assert snapshot.meta.rejections["tiny"].n_rejected == 2


def test_without_allow_drop_one_small_relation_stops_the_run(tiny_llama: LanguageModel) -> None:
    with pytest.raises(TrialError, match="tiny: 0 of 4 fit trials"):
        snapshot_of(tiny_llama, [numbered(20, "large"), numbered(2, "tiny")])


def test_dropping_every_relation_is_an_error(tiny_llama: LanguageModel) -> None:
    with pytest.raises(TrialError, match=r"No relation of some.csv .*unrelated demonstrations"):
        snapshot_of(tiny_llama, [numbered(2, "tiny")], allow_drop=True)
