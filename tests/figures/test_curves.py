"""Curves and bars are their tables' rows, told apart in grey, and many lines become grey ones with their mean."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from figure_samples import VALUE, by_head_count, curves, head_stability, words
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from fv.figures.convergence import ranking_convergence
from fv.figures.head_count import effect_by_head_count
from fv.figures.inclusion import inclusion_probabilities
from fv.figures.lines import MOST_NAMED

MANY = tuple(f"relation_{i}" for i in range(MOST_NAMED + 1))


def marked_lines(axes: Axes) -> list[Line2D]:
    return [line for line in axes.lines if line.get_marker() not in ("None", "")]


def test_effects_of_each_number_of_heads_are_a_line_a_relation_with_its_intervals() -> None:
    rows = by_head_count().sample(frac=1, random_state=0)
    axes = effect_by_head_count(rows).axes[0]
    lines = marked_lines(axes)
    bands = [each for each in axes.collections if isinstance(each, PolyCollection)]
    for line, band, (_, own) in zip(lines, bands, rows.groupby("eval_qid"), strict=True):
        own = own.sort_values("k")
        assert (
            np.asarray(line.get_xdata()).tolist() == own["k"].tolist()
            and np.asarray(line.get_ydata()).tolist() == own[VALUE].tolist()
        )
        heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
        assert (heights.min(), heights.max()) == (own[f"{VALUE}_ci_low"].min(), own[f"{VALUE}_ci_high"].max())
    lightness = [np.dot(matplotlib.colors.to_rgb(line.get_color()), [0.299, 0.587, 0.114]) for line in lines]
    assert np.diff(lightness).min() > 0.1
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines)


def test_rings_are_on_the_chosen_numbers_of_heads() -> None:
    rows = by_head_count()
    figure = effect_by_head_count(rows)
    (rings,) = [each for each in figure.axes[0].collections if isinstance(each, PathCollection)]
    wanted = rows.loc[rows["chosen"], ["k", VALUE]].values.tolist()
    assert sorted(np.asarray(rings.get_offsets()).tolist()) == sorted(wanted)
    assert "chosen k" in words(figure) and "chosen k" not in words(effect_by_head_count(rows.drop(columns="chosen")))


def test_many_relations_are_grey_lines_and_their_mean() -> None:
    rows = by_head_count(MANY)
    figure = effect_by_head_count(rows)
    *grey, mean, zero = figure.axes[0].lines
    assert len(grey) == len(MANY) and len({line.get_color() for line in grey}) == 1
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), rows.groupby("k")[VALUE].mean())
    assert set(np.asarray(zero.get_ydata())) == {0}
    said = words(figure)
    assert f"one of {len(MANY)} relations" in said and "mean over relations" in said and "relation_1" not in said


@pytest.mark.parametrize("value", ["overlap_apart", "overlap_with_all", "spearman_apart"])
def test_convergence_is_a_line_a_ranking_over_the_trials_that_have_a_value(value: str) -> None:
    table = curves()
    figure = ranking_convergence(table, 5, value)
    for line, (_, own) in zip(marked_lines(figure.axes[0]), table.groupby("ranking"), strict=True):
        measured = own.dropna(subset=[value])
        assert np.asarray(line.get_xdata()).tolist() == measured["n_trials"].tolist()
        assert np.asarray(line.get_ydata()).tolist() == measured[value].tolist()
    assert "k = 5 heads" in words(figure)


def test_bars_are_inclusion_probabilities_and_the_top_k_are_dark() -> None:
    heads = head_stability(40).sample(frac=1, random_state=0)
    figure = inclusion_probabilities(heads, 5, 12, most=8)
    bars = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert [bar.get_width() for bar in bars] == heads.sort_values("rank")["inclusion"].tolist()[:8]
    assert len({bar.get_facecolor() for bar in bars[:5]}) == len({bar.get_facecolor() for bar in bars[5:]}) == 1
    assert bars[0].get_facecolor() != bars[5].get_facecolor()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:3] == ["0.1", "0.2", "0.3"]
    assert "top 5" in words(figure) and "next heads" in words(figure) and "n = 12 trials" in words(figure)


WRONG: dict[str, tuple[Any, str]] = {
    "no k": (lambda: effect_by_head_count(by_head_count().drop(columns="k")), "No column k"),
    "two vectors": (
        lambda: effect_by_head_count(pd.concat([by_head_count().assign(fv=fv) for fv in "ab"])),
        "Two rows for eval_qid antonym, k 1: take the rows of one fv",
    ),
    "no ranking": (lambda: ranking_convergence(curves().drop(columns="ranking"), 5), "No column ranking"),
    "few trials": (lambda: ranking_convergence(curves().query("n_trials > 4"), 5), "twice as many trials"),
    "other value": (lambda: ranking_convergence(curves(), 5, "gap"), "one of overlap_apart"),
    "no inclusion": (lambda: inclusion_probabilities(head_stability().drop(columns="inclusion"), 5, 9), "No column"),
    "two rankings": (lambda: inclusion_probabilities(pd.concat([head_stability()] * 2), 5, 9), "one ranking"),
    "no share": (lambda: inclusion_probabilities(head_stability().assign(inclusion=1.5), 5, 9), "not a probability"),
    "no heads": (lambda: inclusion_probabilities(head_stability(0), 5, 9), "No rows"),
}


@pytest.mark.parametrize(("make", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_table_without_a_curve_is_refused_with_what_it_needs(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
