"""Relations in memory: pairs in every form that says which is the input, and a refusal of all others."""

from collections import Counter, OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fv
from fv.data.reading import as_relations
from fv.errors import RelationError

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip)
pair_lists = st.lists(st.tuples(words, words), min_size=1, unique=True)
FORMS = (
    tuple,
    list,
    iter,
    lambda pair: fv.Pair(*pair),
    lambda pair: dict(zip(("input", "output"), pair, strict=True)),
    lambda pair: dict(zip(("output", "input"), reversed(pair), strict=True)),
    lambda pair: OrderedDict(subject=pair[0], object=pair[1]),
    lambda pair: {"exA": pair[0], "exB": pair[1]},
    lambda pair: {pair[0]: pair[1]}.popitem(),
)
"""All forms of a pair that are read."""


@given(pairs=pair_lists, data=st.data())
def test_a_pair_is_read_in_every_form_that_says_which_is_the_input(
    pairs: list[tuple[str, str]], data: st.DataObject
) -> None:
    given_pairs = [data.draw(st.sampled_from(FORMS))(pair) for pair in pairs]
    assert [*as_relations({"r": given_pairs})["r"].pairs] == pairs


@given(st.dictionaries(words, words, min_size=1))
def test_the_items_of_a_dict_are_pairs_in_its_order(given_pairs: dict[str, str]) -> None:
    assert [*as_relations({"r": given_pairs.items()})["r"].pairs] == [*given_pairs.items()]


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ({"question": "hot", "answer": "cold"}, "has the keys 'question', 'answer', where exA and exB or inp"),
        ({"input": "hot", "output": "cold", "q_id": "s"}, "has the keys 'input', 'output', 'q_id', where"),
        ({"input": "hot"}, "has the keys 'input', where"),
        ({}, "has the keys of none, where"),
        ({"hot": "cold"}, "has the keys 'hot', where"),
        ({"input": "hot", "output": 3}, "column output does not hold text"),
        ({"input": "", "output": "cold"}, "column input is empty"),
        ({"hot", "cold"}, "a set, which has no order: give a pair as"),
        (frozenset(["hot", "cold"]), "a frozenset, which has no order"),
        ("ab", "is 'ab', where a pair of input and output is due"),
        (b"ab", "is b'ab', where a pair"),
        (("hot",), "where a pair"),
        (("hot", "cold", "warm"), "where a pair"),
        (7, "is 7, where a pair"),
        (None, "is None, where a pair"),
        (("hot", ["cold", "cool"]), "column output does not hold text"),
    ],
)  # fmt: skip
def test_what_does_not_say_which_is_the_input_is_refused_with_its_place(pair: Any, told: str) -> None:
    with pytest.raises(RelationError) as refused:
        as_relations({"antonym": [("up", "down"), pair]})
    assert "antonym, line 2: " in str(refused.value) and told in str(refused.value)


@pytest.mark.parametrize(
    "pairs",
    [{("hot", "cold")}, frozenset([("hot", "cold")]), {("hot", "cold"): 1}, Counter([("a", "b")]), {"a": "b"}, "ab", 7],
)
def test_pairs_without_an_order_are_refused(pairs: Any) -> None:
    with pytest.raises(RelationError, match=r"antonym, line 1: is a \w+, where a list such as"):
        as_relations({"antonym": pairs})
