"""Fit queries are used again where there are fewer than trials: in other prompts, after the trials that there were."""

from collections import Counter

import pytest
from conftest import DEFAULT_CSV, MakeConfig
from hypothesis import given
from hypothesis import strategies as st
from relation_makers import light, noisy_pairs, numbered, relation, sample, seeds, snapshot_of

from fv.config import DataConfig, Split
from fv.data.relations import Pair, read_configured
from fv.data.sample_trials import sample_trials
from fv.data.sampling import sample_snapshot
from fv.errors import TrialError
from fv.evaluation.grid import eval_trials
from fv.models.language_model import LanguageModel


@light
@given(
    pairs=noisy_pairs, seed=seeds, n_demos=st.integers(1, 3), split=st.sampled_from(Split), n_fit=st.integers(12, 50)
)
def test_no_trial_of_a_query_is_there_twice(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, n_demos: int, split: Split, n_fit: int
) -> None:
    asked = {"n_demos": n_demos, "split": split, "n_trials_per_q": n_fit, "allow_drop": True}
    trials = [t for t in sample(tiny_llama, relation(pairs), seed, **asked).trials if t.split == "fit"]
    assert len(trials) == n_fit
    assert [trial.trial_id for trial in trials] == [f"q:fit:{i:04d}" for i in range(n_fit)]
    assert len({(trial.query, trial.clean_prompt_str) for trial in trials}) == n_fit
    if len({pair.exA for pair in pairs}) == len(set(pairs)):
        assert len({trial.clean_prompt_str for trial in trials}) == n_fit
    # A prompt that another query of the same input has cannot come up after the first pass.
    n_queries = len({trial.query for trial in trials})
    prompts = Counter(trial.clean_prompt_str for trial in trials)
    assert all(prompts[trial.clean_prompt_str] == 1 for trial in trials[n_queries:])


@light
@given(seed=seeds, n=st.integers(14, 16), counts=st.tuples(st.integers(12, 50), st.integers(1, 20)))
def test_a_shorter_list_of_trials_is_the_beginning_of_a_longer_one(
    tiny_llama: LanguageModel, seed: int, n: int, counts: tuple[int, int]
) -> None:
    few, more = counts
    for split in Split:
        asked = {"n_demos": 2, "n_eval_trials_per_q": 2, "split": split}
        short, long = (
            sample(tiny_llama, numbered(n), seed, **asked, n_trials_per_q=count).trials for count in (few, few + more)
        )
        assert [t for t in long if t.split == "fit"][:few] == [t for t in short if t.split == "fit"]
        assert [t for t in long if t.split == "eval"] == [t for t in short if t.split == "eval"]


def test_queries_are_used_equally_often_each_time_behind_other_demonstrations(tiny_llama: LanguageModel) -> None:
    trials = sample(tiny_llama, numbered(7), n_trials_per_q=20, split=Split.shared).trials
    assert sorted(Counter(trial.query for trial in trials).values()) == [2, 3, 3, 3, 3, 3, 3]
    assert [trial.query for trial in trials[:7]] == [trial.query for trial in trials[7:14]]
    for query in {trial.query for trial in trials}:
        shown = [tuple(trial.demos) for trial in trials if trial.query == query]
        assert len(set(shown)) == len(shown)


@pytest.mark.parametrize(("n_pairs", "n_demos", "n_prompts"), [(2, 1, 2), (3, 1, 6), (3, 2, 6), (4, 3, 24), (4, 2, 24)])
@pytest.mark.parametrize("seed", range(5))
def test_all_prompts_that_there_are_can_be_had_and_no_more(
    tiny_llama: LanguageModel, n_pairs: int, n_demos: int, n_prompts: int, seed: int
) -> None:
    asked = {"n_demos": n_demos, "split": Split.shared}
    trials = sample(tiny_llama, numbered(n_pairs), seed, **asked, n_trials_per_q=n_prompts).trials
    assert len({trial.clean_prompt_str for trial in trials}) == n_prompts
    with pytest.raises(TrialError) as caught:
        sample(tiny_llama, numbered(n_pairs), seed, **asked, n_trials_per_q=n_prompts + 1)
    for told in (
        f"q: {n_prompts} of {n_prompts + 1} fit trials",
        "used again as long as other demonstrations made another prompt",
        f"At most {n_prompts} fit trials would work with the other as it is",
    ):
        assert told in str(caught.value)


def test_a_query_that_no_prompt_can_ask_is_not_used_again(tiny_llama: LanguageModel) -> None:
    long = Pair("word " * 600, "too long")
    pairs = relation([long, *numbered(4).pairs])
    trials = sample(tiny_llama, pairs, n_demos=1, n_trials_per_q=10, split=Split.shared)
    assert trials.count("fit") == 10 and long not in {trial.query for trial in trials.trials}


# What is held out


def test_twelve_fit_queries_are_left_however_many_fit_trials_there_are(tiny_llama: LanguageModel) -> None:
    for n_fit in (12, 36, 100):
        trials = sample(tiny_llama, numbered(28), n_demos=10, n_trials_per_q=n_fit, n_eval_trials_per_q=16).trials
        assert len({trial.query for trial in trials if trial.split == "fit"}) == 12
        with pytest.raises(TrialError, match="15 of 16 eval trials"):
            sample(tiny_llama, numbered(27), n_demos=10, n_trials_per_q=n_fit, n_eval_trials_per_q=16)
    sample(tiny_llama, numbered(27), n_demos=10, n_trials_per_q=11, n_eval_trials_per_q=16)


def test_a_query_of_a_shared_split_is_evaluated_once(tiny_llama: LanguageModel) -> None:
    snapshot = snapshot_of(tiny_llama, [numbered(7)], n_trials_per_q=20, split=Split.shared)
    evaluated = eval_trials(snapshot, "q", None)
    assert evaluated == snapshot.of("q", "fit")[:7]
    assert len({trial.zero_shot_prompt_str for trial in evaluated}) == 7
    assert eval_trials(snapshot, "q", 3) == evaluated[:3]


def test_every_trial_of_a_held_out_split_is_evaluated(tiny_llama: LanguageModel) -> None:
    snapshot = snapshot_of(tiny_llama, [numbered(20)], n_trials_per_q=20)
    assert eval_trials(snapshot, "q", None) == snapshot.of("q", "eval")


# The shipped relations


def test_the_demos_relations_and_the_smallest_one_give_thirty_six_fit_trials(
    tiny_llama: LanguageModel, make_config: MakeConfig
) -> None:
    demo = make_config("experiment=demo").data.qids
    assert demo is not None
    for qids, n_eval in ((demo, 20), (["element_symbol"], 16)):
        data = DataConfig(relation_csv_path=str(DEFAULT_CSV), qids=qids, n_eval_trials_per_q=n_eval)
        counts = sample_snapshot(read_configured(data), data, 42, tiny_llama).meta.counts
        assert {(c.fit, c.eval) for c in counts.values()} == {(36, n_eval)} and len(counts) == len(qids)


def test_the_library_and_the_commands_draw_as_many_by_default(tiny_llama: LanguageModel) -> None:
    trials = sample_trials({"r": list(numbered(64).pairs)}, tiny_llama)
    assert (len(trials.fit), len(trials.held_out)) == (36, 16)
    assert len({trial.query for trial in trials.fit}) == 36
