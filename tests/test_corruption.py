"""Corruption: no wrong output is right, and whatever can be corrupted is (spec section 5)."""

import numpy as np
import pytest
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

from fv.corruption import OutputTable, corrupt
from fv.errors import TrialError
from fv.models.language_model import LanguageModel
from fv.relations import Pair, normalise


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
