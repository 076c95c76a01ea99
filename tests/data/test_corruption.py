"""Corruption: no wrong output is right, and whatever can be corrupted is (spec section 5)."""

import hashlib
import itertools
import json
from collections import Counter

import numpy as np
import pytest
from conftest import DEFAULT_CSV
from hypothesis import given
from hypothesis import strategies as st
from relation_makers import (
    BASE,
    dense_pairs,
    light,
    relation,
    right_outputs,
    sample,
    seeds,
)
from scipy.stats import chisquare

from fv.config import Corruption, DataConfig
from fv.data.corruption import OutputTable, admissible_order, corrupt
from fv.data.relations import Pair, normalise, read_configured
from fv.data.sampling import sample_snapshot
from fv.data.trial import Trial
from fv.errors import TrialError
from fv.models.language_model import LanguageModel

KEPT = {
    # Trials with ten different outputs a relation, and a digest of them, from before repeated outputs were rearranged.
    "adj_adverb": (28, "12bc962ad65c842e"),
    "adj_comparative": (28, "3f7dea61a56136fb"),
    "adj_noun_ness": (28, "660aa4645c9a9f0a"),
    "adj_superlative": (28, "25080da9647da156"),
    "alphabetically_first_3": (23, "0fd49ffba4bc18f9"),
    "antonym": (28, "797f112143f1206a"),
    "capitalize": (28, "10954143d639af6a"),
    "choose_first_of_3": (21, "483583af94bcd460"),
    "city_country": (21, "d74cc0ac6700edfd"),
    "country_capital": (28, "a8fa85d94c0efced"),
    "country_currency": (1, "fc0ef52ca44c196a"),
    "country_demonym": (28, "179382283874eca1"),
    "country_french": (28, "ffcc837bad27ccf4"),
    "country_language": (2, "1e0d5e911e4fc69e"),
    "element_symbol": (28, "3343c011c0baff70"),
    "english_french": (28, "de506d70d79498aa"),
    "english_german": (28, "ac53562856b5c2c0"),
    "english_korean": (28, "511acafb4ece043d"),
    "english_spanish": (28, "bf65a190d4553ba4"),
    "first_letter_upper": (2, "146f80084503fc39"),
    "next_item": (28, "ecf7154217722d8c"),
    "noun_plural": (28, "9607716b15e93232"),
    "uppercase": (28, "2bdbbd447d897ec8"),
    "verb_agent": (28, "70cb4b1fcdb20d2d"),
    "verb_gerund": (28, "cf4fb1559cc804e6"),
    "verb_noun_tion": (28, "79e6f9761999b232"),
    "verb_past": (28, "76f9d7102d328c69"),
    "verb_third_person": (28, "67d4aa85c33b1a0c"),
}


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


def admissible(demos: list[Pair], pairs: list[Pair]) -> set[tuple[str, ...]]:
    """Every arrangement of the demonstrations' outputs that leaves none right, by trying all."""
    known = [right_outputs(pairs, demo) for demo in demos]
    orders = itertools.permutations([demo.exB for demo in demos])
    return {order for order in orders if all(normalise(b) not in right for b, right in zip(order, known, strict=True))}


@light
@given(pairs=dense_pairs, seed=seeds, data=st.data())
def test_the_demonstrations_own_outputs_are_rearranged_if_and_only_if_that_leaves_none_right(
    pairs: list[Pair], seed: int, data: st.DataObject
) -> None:
    demos = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=6))
    try:
        wrong, corruption = corrupt(demos, OutputTable(pairs), np.random.default_rng(seed))
    except TrialError:
        return
    possible = admissible(demos, pairs)
    assert corruption == ("deranged" if possible else "relation")
    if possible:
        assert tuple(demo.exB for demo in wrong) in possible


@light
@given(seed=seeds, n=st.integers(1, 6), data=st.data())
def test_an_order_is_found_if_and_only_if_one_is_allowed(seed: int, n: int, data: st.DataObject) -> None:
    cells = data.draw(st.lists(st.booleans(), min_size=n * n, max_size=n * n))
    allowed = np.array(cells).reshape(n, n)
    good = [order for order in itertools.permutations(range(n)) if all(allowed[i, j] for i, j in enumerate(order))]
    found = admissible_order(allowed, np.random.default_rng(seed))
    assert (found is None) == (not good)
    if found is not None:
        assert tuple(found.tolist()) in good


@light
@given(seed=seeds, n=st.integers(9, 40), data=st.data())
def test_the_one_allowed_order_of_many_is_found(seed: int, n: int, data: st.DataObject) -> None:
    only = data.draw(st.permutations(range(n)))
    # A triangle of allowed places has one order: that of its diagonal.
    allowed = np.tril(np.ones((n, n), dtype=bool))[:, np.argsort(only)]
    found = admissible_order(allowed, np.random.default_rng(seed))
    assert found is not None and found.tolist() == only
    allowed[0] = False
    assert admissible_order(allowed, np.random.default_rng(seed)) is None


@light
@given(seed=seeds, n_demos=st.integers(2, 12))
def test_distinct_outputs_are_deranged(seed: int, n_demos: int) -> None:
    wrong, corruption = corrupt(BASE[:n_demos], OutputTable(BASE), np.random.default_rng(seed))
    assert corruption == "deranged"
    assert {demo.exB for demo in wrong} == {demo.exB for demo in BASE[:n_demos]}


@pytest.mark.parametrize(
    ("outputs", "count"),
    [
        ("abcd", 9),  # the derangements of four
        ("aabc", 2),  # both a in the places of b and c
        ("aabbc", 4),
        ("aabbcd", 29),
        ("aaabbbcd", 61),
    ],
)
def test_every_arrangement_without_a_right_output_comes_up_equally_often(outputs: str, count: int) -> None:
    demos = [Pair(f"in {i}", output) for i, output in enumerate(outputs)]
    rng = np.random.default_rng(0)
    drawn = [corrupt(demos, OutputTable(demos), rng)[0] for _ in range(40 * count)]
    seen = Counter(tuple(demo.exB for demo in wrong) for wrong in drawn)
    assert seen.keys() == admissible(demos, demos)
    assert len(seen) == count
    assert chisquare(list(seen.values())).pvalue > 0.001


def test_of_arrangements_too_rare_to_meet_by_chance_none_is_out_of_reach() -> None:
    demos = [Pair(f"in {i}", output) for i, output in enumerate("a" * 10 + "b" * 9 + "c")]
    # The ten a go where none was, and c to one of ten places: ten arrangements among 1.8 million.
    drawn = [corrupt(demos, OutputTable(demos), np.random.default_rng(seed)) for seed in range(150)]
    assert {corruption for _, corruption in drawn} == {"deranged"}
    assert len({tuple(demo.exB for demo in wrong) for wrong, _ in drawn}) == 10


def test_one_demonstration_draws_any_other_output_of_the_relation() -> None:
    rng = np.random.default_rng(0)
    drawn = [corrupt(BASE[:1], OutputTable(BASE), rng) for _ in range(400)]
    assert {corruption for _, corruption in drawn} == {"relation"}
    assert {wrong[0].exB for wrong, _ in drawn} == {pair.exB for pair in BASE[1:]}


@light
@given(pairs=dense_pairs, seed=seeds, data=st.data())
def test_outputs_are_drawn_where_one_stands_in_more_than_half_of_the_demonstrations(
    pairs: list[Pair], seed: int, data: st.DataObject
) -> None:
    table = OutputTable([*pairs, Pair("other", "z")])
    demos = [pair for pair in pairs if pair.exB in ("a", "A")] + [Pair("more", "a")]
    demos += data.draw(st.permutations([Pair(f"in {i}", f"out {i}") for i in range(len(demos) - 1)]))
    try:
        wrong, corruption = corrupt(demos, table, np.random.default_rng(seed))
    except TrialError:
        return
    assert corruption == "relation"
    assert {demo.exB for demo in wrong} <= set(table.choices)


def test_spellings_of_one_output_are_one_output() -> None:
    demos = [Pair("cat", "animal"), Pair("dog", "Animal"), Pair("oak", "plant"), Pair("elm", "Plant")]
    outputs = OutputTable([*demos, Pair("iron", "metal")])
    for seed in range(20):
        wrong, corruption = corrupt(demos, outputs, np.random.default_rng(seed))
        assert corruption == "deranged"
        assert {demo.exB for demo in wrong[:2]} == {"plant", "Plant"}
        assert {demo.exB for demo in wrong[2:]} == {"animal", "Animal"}


@pytest.mark.parametrize("outputs", ["ab", "aabb", "aaab", "aaaaabbbbb", "aaaaaaabbb"])
def test_of_two_outputs_every_one_is_flipped(outputs: str) -> None:
    demos = [Pair(f"in {i}", output) for i, output in enumerate(outputs)]
    wrong, _ = corrupt(demos, OutputTable(demos), np.random.default_rng(0))
    assert "".join(demo.exB for demo in wrong) == outputs.translate(str.maketrans("ab", "ba"))


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


@pytest.mark.parametrize("q_id", ["country_language", "country_currency", "last_letter"])
def test_shipped_relations_of_repeated_outputs_keep_them_all(tiny_llama: LanguageModel, q_id: str) -> None:
    data = DataConfig(relation_csv_path=str(DEFAULT_CSV), qids=[q_id], n_trials_per_q=40)
    trials = sample_snapshot(read_configured(data), data, 42, tiny_llama).trials
    repeated = [trial for trial in trials if len({demo.exB for demo in trial.demos}) < len(trial.demos)]
    for trial in repeated:
        # An output in more than half of the demonstrations has nowhere else to go.
        most = max(Counter(normalise(demo.exB) for demo in trial.demos).values())
        assert trial.corruption == ("relation" if 2 * most > len(trial.demos) else "deranged")
        if trial.corruption == "deranged":
            assert sorted(demo.exB for demo in trial.corrupted_demos) == sorted(demo.exB for demo in trial.demos)
            assert all(demo.exB != wrong.exB for demo, wrong in zip(trial.demos, trial.corrupted_demos, strict=True))
    assert sum(trial.corruption == "deranged" for trial in repeated) > 45


# Permutation


@light
@given(pairs=dense_pairs, seed=seeds, data=st.data())
def test_permuted_outputs_are_the_demonstrations_own(pairs: list[Pair], seed: int, data: st.DataObject) -> None:
    demos = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=6))
    shown, corruption = corrupt(demos, OutputTable(pairs), np.random.default_rng(seed), Corruption.permute)
    assert corruption == "permuted"
    assert [demo.exA for demo in shown] == [demo.exA for demo in demos]
    assert sorted(demo.exB for demo in shown) == sorted(demo.exB for demo in demos)


def test_every_permutation_comes_up_equally_often() -> None:
    rng = np.random.default_rng(0)
    drawn = [corrupt(BASE[:3], OutputTable(BASE), rng, Corruption.permute)[0] for _ in range(600)]
    seen = Counter(tuple(demo.exB for demo in shown) for shown in drawn)
    assert len(seen) == 6 and chisquare(list(seen.values())).pvalue > 0.001


def test_a_relation_with_one_output_can_be_permuted(tiny_llama: LanguageModel) -> None:
    only = relation([Pair(f"beast {i}", "animal") for i in range(20)], "category")
    trials = sample(tiny_llama, only, corruption=Corruption.permute).trials
    assert {trial.corruption for trial in trials} == {"permuted"}
    assert all(trial.corrupted_prompt_str == trial.clean_prompt_str for trial in trials)


# What stays as it was


def drawn_as_before(demos: list[Pair], outputs: OutputTable, rng: np.random.Generator) -> list[Pair]:
    """What `corrupt` gave before repeated outputs were rearranged."""
    own = [normalise(demo.exB) for demo in demos]
    if len(demos) > 1 and len(set(own)) == len(own):
        for _ in range(200):
            order = rng.permutation(len(demos)).tolist()
            if all(outputs.is_wrong(demo, demos[i].exB) for demo, i in zip(demos, order, strict=True)):
                return [Pair(demo.exA, demos[i].exB) for demo, i in zip(demos, order, strict=True)]
    return [Pair(demo.exA, outputs.draw_wrong(demo, rng)) for demo in demos]


@light
@given(pairs=dense_pairs, seed=seeds, data=st.data())
def test_the_relations_generator_moves_as_it_did(pairs: list[Pair], seed: int, data: st.DataObject) -> None:
    table = OutputTable(pairs)
    ours, before = np.random.default_rng(seed), np.random.default_rng(seed)
    for _ in range(4):
        demos = data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=4))
        try:
            expected = drawn_as_before(demos, table, before)
        except TrialError:
            with pytest.raises(TrialError):
                corrupt(demos, table, ours)
        else:
            wrong, corruption = corrupt(demos, table, ours)
            if corruption == "relation" or len({normalise(demo.exB) for demo in demos}) == len(demos):
                assert wrong == expected
        assert ours.bit_generator.state == before.bit_generator.state


def test_trials_whose_outputs_all_differ_are_the_ones_they_were(tiny_llama: LanguageModel) -> None:
    data = DataConfig(relation_csv_path=str(DEFAULT_CSV), n_trials_per_q=12)
    kept: dict[str, list[Trial]] = {}
    for trial in sample_snapshot(read_configured(data), data, 42, tiny_llama).trials:
        if len({normalise(demo.exB) for demo in trial.demos}) == len(trial.demos):
            kept.setdefault(trial.q_id, []).append(trial)
    assert {q_id: (len(trials), _digest(trials)) for q_id, trials in kept.items()} == KEPT


def _digest(trials: list[Trial]) -> str:
    told = [[t.trial_id, t.clean_prompt_str, t.corrupted_prompt_str, t.target_token_ids] for t in trials]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
