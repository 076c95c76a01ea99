"""A shuffled relation: its fit pairs' outputs permuted, and all else that trials are made of as it was."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relation_makers import noisy_pairs, relation, seeds, snapshot_of

from fv.config import Corruption, HoldOut
from fv.data.relations import Pair, normalise
from fv.data.sample_trials import sample_trials
from fv.data.shuffled_relation import fit_pairs, shuffled
from fv.data.snapshot import Snapshot
from fv.data.trial import Trial
from fv.models.language_model import LanguageModel

few = settings(max_examples=15, deadline=None)
PAIRS = [(f"word{i}", f"answer{i % 9}") for i in range(30)]
asked = st.fixed_dictionaries(
    {
        "n_demos": st.integers(2, 3),
        "n_trials_per_q": st.integers(3, 12),
        "n_eval_trials_per_q": st.integers(1, 3),
        "corruption": st.sampled_from(Corruption),
        "allow_drop": st.just(True),
    }
)


def shown(trials: list[Trial]) -> list[Pair]:
    """The pairs that clean prompts show, and the queries of fit trials, once each."""
    queries = [trial.query for trial in trials if trial.split == "fit"]
    return list(dict.fromkeys([*queries, *(pair for trial in trials for pair in trial.demos)]))


def matched(before: Snapshot, after: Snapshot) -> dict[Pair, set[Pair]]:
    """{pair of the fit prompts: what stands in its place}."""
    found: dict[Pair, set[Pair]] = {}
    for one, other in zip(before.trials, after.trials, strict=True):
        for a, b in zip(one.demos, other.demos, strict=True):
            found.setdefault(a, set()).add(b)
        if one.split == "fit":
            found.setdefault(one.query, set()).add(other.query)
    return found


@few
@given(pairs=noisy_pairs, seed=seeds, draw=st.integers(0, 5), data=asked)
def test_outputs_are_permuted_among_the_fit_pairs_and_nothing_else_moves(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, draw: int, data: dict[str, object]
) -> None:
    before = snapshot_of(tiny_llama, [relation(pairs)], seed, **data)
    after = shuffled(before, "q", tiny_llama, draw, seed)
    assert len(after.trials) == len(before.trials)
    for one, other in zip(before.trials, after.trials, strict=True):
        assert (one.trial_id, one.split, one.q_id) == (other.trial_id, other.split, other.q_id)
        assert [demo.exA for demo in one.demos] == [demo.exA for demo in other.demos]
        assert [demo.exA for demo in one.demos] == [demo.exA for demo in other.corrupted_demos]
        assert one.query.exA == other.query.exA and one.zero_shot_prompt_str == other.zero_shot_prompt_str
        if one.split == "eval":
            assert (one.query, one.target_token_ids) == (other.query, other.target_token_ids)
    found = matched(before, after)
    # One output a pair in all prompts, and of all pairs the outputs that there were.
    assert all(len(given_) == 1 for given_ in found.values())
    given_pairs = [pair for (pair,) in found.values()]
    assert Counter(pair.exB for pair in given_pairs) == Counter(pair.exB for pair in found)
    assert set(found) == set(shown(before.trials)) == set(fit_pairs(before.trials))


@few
@given(pairs=noisy_pairs, seed=seeds, draw=st.integers(0, 5), data=asked)
def test_corrupted_demonstrations_are_wrong_by_the_permutation(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, draw: int, data: dict[str, object]
) -> None:
    data = {**data, "corruption": Corruption.derange}
    before = snapshot_of(tiny_llama, [relation(pairs)], seed, **data)
    after = shuffled(before, "q", tiny_llama, draw, seed)
    right: dict[str, set[str]] = {}
    for given_ in matched(before, after).values():
        for pair in given_:
            right.setdefault(normalise(pair.exA), set()).add(normalise(pair.exB))
    for trial in after.trials:
        for demo in trial.corrupted_demos:
            assert normalise(demo.exB) not in right[normalise(demo.exA)]
        wrong = [normalise(demo.exB) for demo in trial.corrupted_demos]
        assert trial.target_in_corrupted == (normalise(trial.query.exB) in wrong)


@pytest.fixture(scope="module")
def sampled(tiny_llama: LanguageModel) -> Snapshot:
    return sample_trials({"q": PAIRS, "other": PAIRS[::-1]}, tiny_llama, demos=3, fit=12, held_out=6).snapshot


def test_prompts_say_what_the_permutation_gives(tiny_llama: LanguageModel, sampled: Snapshot) -> None:
    for trial in shuffled(sampled, "q", tiny_llama, 1, 0).trials:
        for demos, text in (
            (trial.demos, trial.clean_prompt_str),
            (trial.corrupted_demos, trial.corrupted_prompt_str),
        ):
            lines = [line.partition(": ")[2] for line in text.splitlines() if ": " in line]
            assert lines == [word for demo in demos for word in demo] + [trial.query.exA]
        assert trial.target_str.strip() == trial.query.exB
        ids = tiny_llama.encode(trial.clean_prompt_str + trial.target_str, sampled.meta.add_special_tokens)
        assert list(ids[-len(trial.target_token_ids) :]) == trial.target_token_ids


def test_a_draw_is_repeated_by_its_seed_and_number_and_differs_from_others(
    tiny_llama: LanguageModel, sampled: Snapshot
) -> None:
    first = shuffled(sampled, "q", tiny_llama, 0, 7)
    assert first == shuffled(sampled, "q", tiny_llama, 0, 7)
    others = [shuffled(sampled, "q", tiny_llama, draw, seed) for draw, seed in ((1, 7), (2, 7), (0, 8))]
    outputs = {tuple(trial.query.exB for trial in each.trials) for each in (first, *others)}
    assert len(outputs) == 4


def test_every_permutation_is_as_likely(tiny_llama: LanguageModel) -> None:
    # One pair is held out, and three have six permutations, the one that changes nothing among them.
    pairs = [("one", "red"), ("two", "blue"), ("six", "green"), ("ten", "white")]
    before = sample_trials({"q": pairs}, tiny_llama, demos=2, fit=3, held_out=1).snapshot
    assert len(fit_pairs(before.trials)) == 3
    found = Counter(
        tuple(
            sorted(
                pair for given_ in matched(before, shuffled(before, "q", tiny_llama, i, 0)).values() for pair in given_
            )
        )
        for i in range(240)
    )
    # Forty each in expectation; four standard deviations are 23.
    assert len(found) == 6 and all(17 <= count <= 63 for count in found.values())


def test_only_the_relation_itself_is_there(tiny_llama: LanguageModel, sampled: Snapshot) -> None:
    after = shuffled(sampled, "q", tiny_llama, 0, 0)
    assert after.qids == ["q"] == [*after.meta.counts]


def test_where_fit_trials_are_evaluated_their_answers_are_permuted_too(tiny_llama: LanguageModel) -> None:
    before = sample_trials({"q": PAIRS}, tiny_llama, demos=3, fit=12, held_out=0).snapshot
    after = shuffled(before, "q", tiny_llama, 0, 0)
    assert [trial.query for trial in after.trials] != [trial.query for trial in before.trials]
    assert len(after.evaluated("q")) == len(before.evaluated("q"))


def test_answers_that_were_held_out_stay_held_out(tiny_llama: LanguageModel) -> None:
    before = sample_trials(
        {"q": PAIRS}, tiny_llama, demos=2, fit=8, held_out=3, hold_out=HoldOut.outputs.value
    ).snapshot
    after = shuffled(before, "q", tiny_llama, 0, 0)
    fit = {normalise(pair.exB) for trial in after.of("q", "fit") for pair in (trial.query, *trial.demos)}
    assert not fit & {normalise(trial.query.exB) for trial in after.of("q", "eval")}
