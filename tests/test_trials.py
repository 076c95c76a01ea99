"""Trials: fair corruption, no leaks between splits, and relations that do not disturb one another (spec section 5)."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fv.config import Config, DataConfig, ModelConfig, Split
from fv.corruption import OutputTable, corrupt
from fv.encoding import Encoder
from fv.errors import TrialError
from fv.models.language_model import LanguageModel
from fv.relations import Pair, Relation, RelationFile, normalise
from fv.snapshot import Example, Snapshot, Trial
from fv.steps.sampling import sample_snapshot
from fv.trials import QidTrials, RelationSampler, kin_groups

# Enough unrelated pairs for every request below, and noise that repeats, reverses, re-spells and contradicts them.
BASE = [Pair(f"in{i}", f"out{i}") for i in range(16)]
spellings = st.sampled_from(
    [spell(text) for pair in BASE[:8] for text in pair for spell in (str, str.upper, str.title)]
)
noise = st.lists(st.builds(Pair, spellings, spellings), max_size=8)
noisy_pairs = noise.map(lambda extra: [*BASE, *extra])
# Few words, so that outputs repeat and inputs are ambiguous all the time.
few_words = st.sampled_from(["a", "A", "b", "c", "d", "e", "ａ"])
dense_pairs = st.lists(st.builds(Pair, few_words, few_words), min_size=1, max_size=12, unique=True)
seeds = st.integers(0, 2**40)
light = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])


def relation(pairs: list[Pair], q_id: str = "q") -> Relation:
    return Relation(q_id, tuple(dict.fromkeys(pairs)), 0, 0)


def numbered(n: int, q_id: str = "q") -> Relation:
    """`n` unrelated pairs."""
    return relation([Pair(f"{q_id} in {i}", f"out {i}") for i in range(n)], q_id)


def request(**data: Any) -> DataConfig:
    return DataConfig(**{"n_trials_per_q": 4, "n_demos": 3, "n_eval_trials_per_q": 3, **data})


def sample(lm: LanguageModel, of: Relation, seed: int = 0, **data: Any) -> QidTrials:
    return RelationSampler(of, request(**data), seed, Encoder(lm, special=False)).sample()


def snapshot_of(lm: LanguageModel, relations: list[Relation], seed: int = 0, **data: Any) -> Snapshot:
    config = Config(model=ModelConfig(), data=request(**data), seed=seed)
    return sample_snapshot(RelationFile(Path("some.csv"), "0" * 64, tuple(relations)), config, lm)


def are_kin(a: Pair | Example, b: Pair | Example) -> bool:
    """The rule, pair by pair: the same input, or each other's reverse, however spelled."""
    same_input = normalise(a.exA) == normalise(b.exA)
    return same_input or (normalise(a.exA), normalise(a.exB)) == (normalise(b.exB), normalise(b.exA))


def right_outputs(pairs: list[Pair], of: Pair | Example) -> set[str]:
    return {normalise(pair.exB) for pair in pairs if normalise(pair.exA) == normalise(of.exA)}


def texts_of(trial: Trial) -> list[str]:
    return [trial.clean_prompt_str, trial.corrupted_prompt_str, trial.zero_shot_prompt_str, trial.target_str]


# Corruption


@light
@given(pairs=dense_pairs, seed=seeds, data=st.data())
def test_corruption_leaves_no_right_output_and_fails_only_where_that_is_impossible(
    pairs: list[Pair], seed: int, data: st.DataObject
) -> None:
    demos = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=4))
    everything = {normalise(pair.exB) for pair in pairs}
    impossible = any(everything <= right_outputs(pairs, demo) for demo in demos)
    try:
        wrong, _ = corrupt(demos, OutputTable(pairs), np.random.default_rng(seed))
    except TrialError:
        assert impossible
        return
    assert not impossible
    assert [demo.exA for demo in wrong] == [demo.exA for demo in demos]
    for demo in wrong:
        assert normalise(demo.exB) not in right_outputs(pairs, demo)
        assert demo.exB in {pair.exB for pair in pairs}


@light
@given(pairs=dense_pairs, seed=seeds, data=st.data())
def test_deranged_outputs_are_the_demonstrations_own_and_none_stays(
    pairs: list[Pair], seed: int, data: st.DataObject
) -> None:
    demos = data.draw(st.lists(st.sampled_from(pairs), min_size=2, max_size=4))
    try:
        wrong, corruption = corrupt(demos, OutputTable(pairs), np.random.default_rng(seed))
    except TrialError:
        return
    own = [demo.exB for demo in demos]
    if corruption == "deranged":
        assert sorted(demo.exB for demo in wrong) == sorted(own)
        assert all(normalise(demo.exB) != normalise(before) for demo, before in zip(wrong, own, strict=True))
        assert len({normalise(output) for output in own}) == len(own)


@light
@given(seed=seeds, n_demos=st.integers(2, 12))
def test_distinct_outputs_are_deranged(seed: int, n_demos: int) -> None:
    wrong, corruption = corrupt(BASE[:n_demos], OutputTable(BASE), np.random.default_rng(seed))
    assert corruption == "deranged"
    assert {demo.exB for demo in wrong} == {demo.exB for demo in BASE[:n_demos]}


def test_every_derangement_comes_up() -> None:
    rng = np.random.default_rng(0)
    seen = {tuple(demo.exB for demo in corrupt(BASE[:4], OutputTable(BASE), rng)[0]) for _ in range(400)}
    assert len(seen) == 9  # the derangements of four


def test_one_demonstration_draws_any_other_output_of_the_relation() -> None:
    rng = np.random.default_rng(0)
    drawn = [corrupt(BASE[:1], OutputTable(BASE), rng) for _ in range(400)]
    assert {corruption for _, corruption in drawn} == {"relation"}
    assert {wrong[0].exB for wrong, _ in drawn} == {pair.exB for pair in BASE[1:]}


def test_repeated_outputs_are_replaced_from_the_relation() -> None:
    demos = [Pair("cat", "animal"), Pair("dog", "Animal"), Pair("oak", "plant"), Pair("elm", "plant")]
    outputs = OutputTable([*demos, Pair("iron", "metal")])
    for seed in range(20):
        wrong, corruption = corrupt(demos, outputs, np.random.default_rng(seed))
        assert corruption == "relation"
        assert {demo.exB for demo in wrong[:2]} <= {"plant", "metal"}
        assert {demo.exB for demo in wrong[2:]} <= {"animal", "Animal", "metal"}


def test_an_ambiguous_inputs_other_output_is_not_wrong() -> None:
    pairs = [Pair("big", "small"), Pair("big", "little"), Pair("hot", "cold")]
    rng = np.random.default_rng(0)
    assert {corrupt([pairs[0]], OutputTable(pairs), rng)[0][0].exB for _ in range(50)} == {"cold"}


@pytest.mark.parametrize("outputs", [["animal"], ["animal", "Animal", "ANIMAL "]])
@pytest.mark.parametrize("n_demos", [1, 3])
def test_a_relation_with_one_distinct_output_is_an_error(
    tiny_llama: LanguageModel, outputs: list[str], n_demos: int
) -> None:
    only = relation([Pair(f"beast {i}", outputs[i % len(outputs)]) for i in range(20)], "category")
    with pytest.raises(TrialError, match=r"category: 0 of 4 fit trials(.|\n)*cannot corrupt"):
        sample(tiny_llama, only, n_demos=n_demos)


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


# Counts and failures


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
    for part in ("plural: 0 of 12 fit trials", "3 pairs", "10 demonstrations", "16 held-out", "data.allow_drop=true"):
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
