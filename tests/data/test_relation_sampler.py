"""Trials: no leaks between splits, and relations that do not disturb one another (spec section 5)."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from relation_makers import (
    are_kin,
    light,
    noisy_pairs,
    numbered,
    relation,
    right_outputs,
    sample,
    seeds,
    snapshot_of,
    texts_of,
)

from fv.config import Split
from fv.data.kin_groups import kin_groups
from fv.data.relations import Pair, Relation, normalise
from fv.models.language_model import LanguageModel

# Leaks


@pytest.mark.parametrize(
    ("pairs", "groups"),
    [
        ("a>b c>d", [{0}, {1}]),
        ("a>b a>c", [{0, 1}]),
        ("a>b A>c", [{0, 1}]),
        ("a>b b>a", [{0, 1}]),
        ("a>b B>A", [{0, 1}]),
        ("a>x b>x", [{0}, {1}]),  # the same output tells nothing
        ("a>b b>c", [{0}, {1}]),
        ("a>b b>a b>c c>b d>e", [{0, 1, 2, 3}, {4}]),  # kinship is passed on
        ("a>a b>b", [{0}, {1}]),
    ],
)
def test_pairs_with_one_input_or_reversed_are_kin(pairs: str, groups: list[set[int]]) -> None:
    numbers = kin_groups([Pair(*text.split(">")) for text in pairs.split()])
    assert sorted([{i for i, n in enumerate(numbers) if n == m} for m in set(numbers)], key=min) == groups


@light
@given(pairs=noisy_pairs, seed=seeds, n_demos=st.integers(1, 3), split=st.sampled_from(Split))
def test_no_demonstration_is_kin_of_its_query_or_of_another(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, n_demos: int, split: Split
) -> None:
    result = sample(tiny_llama, relation(pairs), seed, n_demos=n_demos, split=split, allow_drop=True)
    assert result.count("fit") == 4
    for trial in result.trials:
        shown = [trial.query, *trial.demos]
        assert len(shown) == n_demos + 1
        assert not any(are_kin(a, b) for i, a in enumerate(shown) for b in shown[:i])


@light
@given(pairs=noisy_pairs, seed=seeds, n_demos=st.integers(1, 3))
def test_no_demonstration_of_a_corrupted_prompt_is_right(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, n_demos: int
) -> None:
    for trial in sample(tiny_llama, relation(pairs), seed, n_demos=n_demos, allow_drop=True).trials:
        assert [demo.exA for demo in trial.corrupted_demos] == [demo.exA for demo in trial.demos]
        for demo in trial.corrupted_demos:
            assert normalise(demo.exB) not in right_outputs(pairs, demo)
        visible = normalise(trial.query.exB) in {normalise(demo.exB) for demo in trial.corrupted_demos}
        assert trial.target_in_corrupted == visible


@light
@given(pairs=noisy_pairs, seed=seeds, n_demos=st.integers(1, 3))
def test_no_eval_query_is_seen_while_fitting_in_either_direction(
    tiny_llama: LanguageModel, pairs: list[Pair], seed: int, n_demos: int
) -> None:
    trials = sample(tiny_llama, relation(pairs), seed, n_demos=n_demos, allow_drop=True).trials
    held_out = [trial.query for trial in trials if trial.split == "eval"]
    fitted = [pair for t in trials if t.split == "fit" for pair in [t.query, *t.demos]]
    assert held_out and fitted
    assert not any(are_kin(query, pair) for query in held_out for pair in fitted)
    # Nor does an eval prompt show another eval query's answer.
    shown = [demo for t in trials if t.split == "eval" for demo in t.demos]
    assert not any(are_kin(query, demo) for query in held_out for demo in shown)


def test_a_fit_query_may_be_shown_in_other_trials_and_never_in_its_own(tiny_llama: LanguageModel) -> None:
    result = sample(tiny_llama, numbered(12), n_trials_per_q=6, n_demos=4)
    fit = [trial for trial in result.trials if trial.split == "fit"]
    asked = {trial.query for trial in fit}
    assert len(fit) == 6 and all(trial.query not in trial.demos for trial in fit)
    assert any(asked & {*trial.demos} for trial in fit)


def test_eval_queries_are_no_kin_of_one_another(tiny_llama: LanguageModel) -> None:
    ambiguous = relation([Pair(f"in{i}", f"out{i}{way}") for i in range(12) for way in "abc"])
    for seed in range(5):
        held_out = [
            t.query for t in sample(tiny_llama, ambiguous, seed, n_eval_trials_per_q=8).trials if t.split == "eval"
        ]
        assert len({query.exA for query in held_out}) == 8


@light
@given(pairs=noisy_pairs, seed=seeds)
def test_no_query_is_asked_twice(tiny_llama: LanguageModel, pairs: list[Pair], seed: int) -> None:
    queries = [trial.query for trial in sample(tiny_llama, relation(pairs), seed, allow_drop=True).trials]
    assert len(set(queries)) == len(queries)


# Randomness


@settings(deadline=None, max_examples=15)
@given(
    seed=seeds, others=st.lists(st.sampled_from(["a", "m", "z", "q2", "Q", "query"]), unique=True), order=st.randoms()
)
def test_adding_removing_or_reordering_relations_changes_no_other_relations_trials(
    tiny_llama: LanguageModel, seed: int, others: list[str], order: random.Random
) -> None:
    relations = [numbered(12, "q"), *(numbered(11, q_id) for q_id in others)]
    order.shuffle(relations)
    together = snapshot_of(tiny_llama, relations, seed)
    alone = snapshot_of(tiny_llama, [numbered(12, "q")], seed)
    for split in ("fit", "eval"):
        assert [t.model_dump_json() for t in together.of("q", split)] == [
            t.model_dump_json() for t in alone.of("q", split)
        ]


def test_relations_with_the_same_pairs_draw_differently(tiny_llama: LanguageModel) -> None:
    pairs = list(numbered(12).pairs)
    a, b = (sample(tiny_llama, relation(pairs, q_id)).trials for q_id in ("a", "b"))
    assert [trial.query for trial in a] != [trial.query for trial in b]


def test_the_same_seed_gives_the_same_trials_and_another_seed_others(tiny_llama: LanguageModel) -> None:
    first, again, other = (snapshot_of(tiny_llama, [numbered(12)], seed) for seed in (1, 1, 2))
    assert first.model_dump_json() == again.model_dump_json()
    assert [trial.query for trial in first.trials] != [trial.query for trial in other.trials]


# Text and tokens


def test_a_trials_prompts_are_the_text_written_by_hand(tiny_lm: LanguageModel) -> None:
    pairs = [Pair("hot", "cold"), Pair("up", "down")]
    trials = sample(tiny_lm, relation(pairs), n_demos=1, n_trials_per_q=2, split=Split.shared).trials
    by_query = {trial.query.exA: trial for trial in trials}
    assert texts_of(by_query["up"]) == [
        "Q: hot\nA: cold\n\nQ: up\nA:",
        "Q: hot\nA: down\n\nQ: up\nA:",
        "Q: up\nA:",
        " down",
    ]
    assert texts_of(by_query["hot"]) == [
        "Q: up\nA: down\n\nQ: hot\nA:",
        "Q: up\nA: cold\n\nQ: hot\nA:",
        "Q: hot\nA:",
        " cold",
    ]
    assert [(trial.corruption, trial.target_in_corrupted) for trial in trials] == [("relation", True)] * 2


def test_an_answer_shown_in_another_spelling_counts_as_shown(tiny_llama: LanguageModel) -> None:
    pairs = relation([Pair("up", "Down"), Pair("high", "down"), Pair("right", "left")])
    trials = sample(tiny_llama, pairs, n_demos=2, n_trials_per_q=3, split=Split.shared).trials
    shown = {trial.query.exA: trial.target_in_corrupted for trial in trials}
    assert shown["up"] and shown["high"]


def test_a_trials_target_tokens_are_its_answer(tiny_lm: LanguageModel) -> None:
    for trial in sample(tiny_lm, numbered(12)).trials:
        assert tiny_lm.tokenizer.decode(trial.target_token_ids) == f" {trial.query.exB}" == trial.target_str
        assert trial.target_first_token_id == trial.target_token_ids[0]


def test_outputs_with_one_first_token_are_counted_as_colliding(tiny_lm: LanguageModel) -> None:
    outputs = ["New York", "New Delhi", "Paris", "new delhi", "Rome", "Oslo", "Cairo"]
    cities = relation([Pair(f"place {i}", output) for i, output in enumerate(outputs)], "city")
    found = snapshot_of(tiny_lm, [cities], n_trials_per_q=2, n_demos=1).meta.first_token_collisions["city"]
    assert (found.n_outputs, found.n_colliding, found.rate) == (6, 2, 2 / 6)


def test_the_snapshot_says_what_it_was_sampled_from(tiny_llama: LanguageModel) -> None:
    odd = Relation("odd", numbered(12).pairs, n_duplicates=3, n_one_to_many=2)
    meta = snapshot_of(tiny_llama, [odd, numbered(12, "plain")], seed=9).meta
    assert (meta.seed, meta.n_demos, meta.split_policy, meta.relation_csv.sha256) == (9, 3, "held_out", "0" * 64)
    assert (meta.duplicates, meta.one_to_many, meta.rejections, meta.dropped_qids) == ({"odd": 3}, {"odd": 2}, {}, [])
    assert meta.template == {"demo": "Q: {exA}\nA: {exB}\n\n", "query": "Q: {exA}\nA:", "target": " {exB}"}
    assert meta.tokenizer["sha256"] == tiny_llama.fingerprint["tokenizer_sha256"]
    assert meta.replayed_from is None
