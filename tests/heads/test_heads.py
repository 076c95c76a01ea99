"""Which heads are swept, and how they are ranked."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.errors import ConfigError
from fv.heads.ranking import choose_indices, describe_heads, heads_to_sweep, rank_heads, top_heads
from fv.interventions.engine import Head

KEY = "mean_delta_logprob"


def table_of(scores: list[tuple[int, int, float]]) -> pd.DataFrame:
    return pd.DataFrame(scores, columns=["layer", "head", KEY])


def test_the_best_head_comes_first_and_ties_go_by_layer_then_head() -> None:
    scores = table_of([(2, 0, 0.5), (1, 3, 0.5), (1, 2, 0.5), (0, 9, -1.0), (3, 1, 2.0)])
    assert top_heads(scores, KEY, 5) == [Head(3, 1), Head(1, 2), Head(1, 3), Head(2, 0), Head(0, 9)]


def test_the_key_chooses_the_column() -> None:
    scores = table_of([(0, 0, 1.0), (0, 1, 2.0)]).assign(mean_delta_p=[0.9, 0.1])
    assert top_heads(scores, KEY, 1) == [Head(0, 1)]
    assert top_heads(scores, "mean_delta_p", 1) == [Head(0, 0)]


# Few distinct scores, so that ties are common.
scores_of_heads = st.dictionaries(
    st.tuples(st.integers(0, 5), st.integers(0, 5)), st.sampled_from([-1.5, 0.0, -0.0, 0.25, 3.0]), min_size=1
)


@settings(max_examples=60, deadline=None)
@given(scores=scores_of_heads, data=st.data())
def test_the_ranking_does_not_depend_on_the_order_of_rows(
    scores: dict[tuple[int, int], float], data: st.DataObject
) -> None:
    rows = data.draw(st.permutations([(*head, score) for head, score in scores.items()]))
    expected = sorted(rows, key=lambda row: (-row[2], row[0], row[1]))
    assert list(rank_heads(table_of(rows), KEY).itertuples(index=False, name=None)) == expected
    k = data.draw(st.integers(1, len(rows)))
    assert top_heads(table_of(rows), KEY, k) == [Head(layer, head) for layer, head, _ in expected[:k]]


def test_more_heads_than_were_swept_is_an_error_that_names_the_allowed() -> None:
    with pytest.raises(ConfigError, match=r"^k=4 is more than the 3 heads .* 1 to 3"):
        top_heads(table_of([(0, 0, 1.0), (0, 1, 1.0), (1, 0, 1.0)]), KEY, 4)


def test_described_heads_carry_rank_and_score() -> None:
    scores = table_of([(0, 1, 0.5), (2, 3, 1.5)])
    assert describe_heads(top_heads(scores, KEY, 2), scores, KEY) == [
        {"rank": 1, "layer": 2, "head": 3, KEY: 1.5},
        {"rank": 2, "layer": 0, "head": 1, KEY: 0.5},
    ]


def test_all_means_every_head_of_every_layer() -> None:
    assert heads_to_sweep("all", "all", 2, 3) == [Head(layer, head) for layer in (0, 1) for head in (0, 1, 2)]


def test_listed_layers_and_heads_are_crossed() -> None:
    assert heads_to_sweep([1], [0, 2], 2, 3) == [Head(1, 0), Head(1, 2)]


@pytest.mark.parametrize(
    ("layers", "heads", "message"),
    [([0, 2, 7], "all", r"^layers=\[0, 2, 7\]: \[2, 7\].*0 to 1"), ("all", [3], r"^heads.*\[3\].*0 to 2")],
)
def test_an_index_out_of_range_is_an_error_that_names_the_allowed(
    layers: list[int] | str, heads: list[int] | str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        heads_to_sweep(layers, heads, 2, 3)


@given(count=st.integers(1, 30), data=st.data())
def test_indices_in_range_are_taken_as_given(count: int, data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, count - 1), unique=True))
    assert choose_indices(wanted, count) == wanted
