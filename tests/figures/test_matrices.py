"""Matrices: each cell has its own row's value, whatever the order, and says where its interval is."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from figure_samples import cosines, top_heads, transfer, words
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from fv.figures.cosines import cosine_heatmap
from fv.figures.data_figure import DataFigure
from fv.figures.head_overlap import overlap_heatmap
from fv.figures.transfer import transfer_heatmap


def names_of(n: int) -> tuple[str, ...]:
    return tuple(f"relation_{i}" for i in range(n))


def image_of(figure: DataFigure) -> np.ma.MaskedArray:
    return np.ma.asarray(figure.axes[0].images[0].get_array())


@given(st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(["effect", "effect_minus_control"]))
@settings(max_examples=15, deadline=None)
def test_a_cell_has_the_value_of_its_vector_and_relation(n: int, seed: int, value: str) -> None:
    table = transfer(names_of(n)).sample(frac=1, random_state=seed)
    figure = transfer_heatmap(table, value)
    image = image_of(figure)
    vectors, relations = (list(dict.fromkeys(table[name])) for name in ("fv", "eval_qid"))
    for row in table.to_dict("records"):
        assert image[vectors.index(row["fv"]), relations.index(row["eval_qid"])] == row[value]
    low, high = ("ci_low", "ci_high") if value == "effect" else ("control_ci_low", "control_ci_high")
    assert figure.table["excludes_zero"].sum() == ((table[low] > 0) | (table[high] < 0)).sum()


def test_numbers_in_cells_are_bold_where_the_interval_excludes_zero() -> None:
    table = transfer()
    figure = transfer_heatmap(table)
    shown = {each.get_text(): each.get_fontweight() for each in figure.axes[0].texts}
    assert len(figure.axes[0].texts) == len(table)
    for effect, low, high in table[["effect", "ci_low", "ci_high"]].to_numpy().tolist():
        bold = low > 0 or high < 0
        assert shown[f"{effect:.1f}".replace("-", "−")] == ("bold" if bold else "normal")
    assert "bold: interval excludes 0" in words(figure)


def test_where_numbers_have_no_room_dots_and_dashes_say_where_the_interval_is() -> None:
    table = transfer(names_of(20))
    figure = transfer_heatmap(table)
    assert not figure.axes[0].texts
    dots, dashes = (each for each in figure.axes[0].collections if isinstance(each, PathCollection))
    assert len(np.asarray(dots.get_offsets())) == (table["ci_low"] > 0).sum() > 0
    assert len(np.asarray(dashes.get_offsets())) == (table["ci_high"] < 0).sum() > 0
    assert "interval > 0" in words(figure) and "interval < 0" in words(figure)


def test_a_pair_that_was_not_run_is_hatched() -> None:
    table = transfer().iloc[1:]
    figure = transfer_heatmap(table)
    mask = np.ma.getmaskarray(image_of(figure))
    assert mask.sum() == 1 and figure.axes[0].patch.get_hatch() and "not measured" in words(figure)
    assert "not measured" not in words(transfer_heatmap(transfer()))


def test_zero_is_white_and_a_given_limit_is_the_scales_end() -> None:
    assert transfer_heatmap(transfer(), limit=9.0).axes[0].images[0].get_clim() == (-9.0, 9.0)
    image = transfer_heatmap(transfer()).axes[0].images[0]
    low, high = image.get_clim()
    assert low == -high == -transfer()["effect"].abs().max()
    assert np.allclose(image.cmap(0.5)[:3], 1.0, atol=0.05)


def test_cosines_are_the_tables_on_a_scale_from_minus_one_to_one() -> None:
    figure = cosine_heatmap(cosines())
    np.testing.assert_array_equal(image_of(figure), cosines().iloc[:, 1:].to_numpy())
    assert figure.axes[0].images[0].get_clim() == (-1, 1)


def test_a_vector_may_be_called_fv() -> None:
    names = ("fv", "b")
    np.testing.assert_array_equal(image_of(cosine_heatmap(cosines(names))), cosines(names).iloc[:, 1:].to_numpy())


@given(st.integers(1, 5), st.integers(1, 10))
@settings(max_examples=15, deadline=None)
def test_overlap_is_the_share_of_heads_that_two_relations_have_in_common(n: int, k: int) -> None:
    table = top_heads(names_of(n), k)
    figure = overlap_heatmap(table)
    heads = {name: set(map(tuple, own[["layer", "head"]].values)) for name, own in table.groupby("q_id")}
    for row in figure.table.to_dict("records"):
        one, other = list(row.values())[:2]
        assert row["shared"] == len(heads[one] & heads[other]) and row["value"] == row["shared"] / k
    assert (np.diag(image_of(figure)) == 1).all()
    assert f"n = {k} heads per relation" in words(figure)


def test_only_chosen_heads_are_compared() -> None:
    table = top_heads().assign(chosen=True)
    more = pd.DataFrame({"q_id": ["antonym"], "layer": [9], "head": [0], "chosen": [False]})
    assert overlap_heatmap(pd.concat([table, more])).table.equals(overlap_heatmap(table).table)


@pytest.mark.parametrize("n", [1, 2, 31, pytest.param(200, marks=pytest.mark.slow)])
def test_matrices_of_any_size_are_drawn_in_one_column(n: int) -> None:
    width, height = transfer_heatmap(transfer(names_of(n))).get_size_inches()
    assert width == pytest.approx(3.3) and height < 5


WRONG: dict[str, tuple[Any, str]] = {
    "no relation": (lambda: transfer_heatmap(transfer().drop(columns="eval_qid")), "No column eval_qid"),
    "other value": (lambda: transfer_heatmap(transfer(), "cosine"), "effect or effect_minus_control"),
    "a pair twice": (lambda: transfer_heatmap(pd.concat([transfer()] * 2)), "Two rows for fv antonym"),
    "limit": (lambda: transfer_heatmap(transfer(), limit=0.0), "above zero"),
    "no fv": (lambda: cosine_heatmap(cosines().drop(columns="fv")), "a first column fv"),
    "not square": (lambda: cosine_heatmap(cosines().head(2)), "they have to be the same"),
    "no cosine": (lambda: cosine_heatmap(cosines().assign(verb_past=1.5)), "1.5 is no cosine"),
    "no head": (lambda: overlap_heatmap(top_heads().drop(columns="head")), "No column head"),
    "a head twice": (lambda: overlap_heatmap(pd.concat([top_heads()] * 2)), "Two rows for q_id antonym, layer"),
    "no heads": (lambda: overlap_heatmap(top_heads().assign(chosen=False)), "No rows"),
}


@pytest.mark.parametrize(("make", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_table_that_is_no_matrix_is_refused_with_what_it_needs(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
