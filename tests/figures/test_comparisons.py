"""Contrasts, costs and trials: each mark is a row of its table, and what is not sure or got worse looks different."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from figure_samples import contrasts, held_out, injection_cost, trial_rows, words
from matplotlib.collections import LineCollection, PathCollection

from fv.figures.contrasts import contrast_forest
from fv.figures.cost import effect_against_cost
from fv.figures.trials import before_and_after


def test_a_forest_has_a_mark_and_an_interval_a_contrast_and_fills_those_that_exclude_zero() -> None:
    table = contrasts()
    own = table[table["metric"] == "logprob"]
    figure = contrast_forest(table)
    (intervals,) = [each for each in figure.axes[0].collections if isinstance(each, LineCollection)]
    ends = {tuple(segment[:, 0]) for segment in intervals.get_segments()}
    assert ends == set(zip(own["ci_low"], own["ci_high"], strict=True))
    filled, hollow = (each for each in figure.axes[0].collections if isinstance(each, PathCollection))
    sure = (own["ci_low"] > 0) | (own["ci_high"] < 0)
    for marks, wanted in ((filled, sure), (hollow, ~sure)):
        assert sorted(np.asarray(marks.get_offsets())[:, 0]) == sorted(own.loc[wanted, "mean"])
    assert 0 < sure.sum() < len(own)
    assert np.asarray(filled.get_facecolor()).tolist() != np.asarray(hollow.get_facecolor()).tolist()


def test_each_mark_of_a_forest_stands_beside_its_own_name_and_n() -> None:
    table = contrasts().assign(n=range(18))
    figure = contrast_forest(table)
    axes = figure.axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    counts = {text.get_position()[1]: text.get_text() for text in axes.texts}
    marks = np.concatenate(
        [np.asarray(each.get_offsets()) for each in axes.collections if isinstance(each, PathCollection)]
    )
    values = {y: x for x, y in marks.tolist()}
    minus = ""
    for place, label in enumerate(labels):
        if label.startswith("−"):
            minus = label.removeprefix("− ").replace("few-shot", "few_shot").replace(" ", "_")
            assert place not in values
        else:
            of_label = (table["metric"] == "logprob") & (table["minus"] == minus) & (table["eval_qid"] == label)
            (row,) = table[of_label].itertuples()
            assert values[place] == row.mean and counts[place] == str(row.n)
    assert len(values) == 9


def test_a_forest_of_one_relation_has_a_row_a_comparison() -> None:
    figure = contrast_forest(contrasts(("antonym",)), "top1")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["− random vector", "− corrupted prompts", "− few-shot"]
    assert "Vector on antonym" in words(figure) and "(fraction)" in words(figure)


def test_an_effect_stands_over_its_own_cost() -> None:
    effects, costs = held_out(), injection_cost().sample(frac=1, random_state=0)
    figure = effect_against_cost(effects, costs)
    keys = ["condition", "fv", "eval_qid", "draw"]
    both = effects.merge(costs, on=keys)
    assert len(figure.table) == len(both) == len(costs)
    drawn = {tuple(point) for line in figure.axes[0].lines[:2] for point in np.asarray(line.get_xydata()).tolist()}
    assert drawn == set(zip(both["mean_y"], both["mean_x"], strict=True))
    said = words(figure)
    assert "vector" in said and "random vector" in said and "few-shot" not in said and "32 texts" in said


def test_trials_are_lines_and_those_that_the_vector_worsens_are_dashed() -> None:
    rows = trial_rows()
    figure = before_and_after(rows)
    wide = rows.pivot(index="trial_id", columns="condition", values="logprob")[["zero_shot", "fv", "few_shot"]]
    *lines, mean = figure.axes[0].lines
    assert sorted(tuple(np.asarray(line.get_ydata())) for line in lines) == sorted(map(tuple, wide.to_numpy()))
    np.testing.assert_allclose(np.asarray(mean.get_ydata()), wide.mean())
    worse = {tuple(row) for row in wide[wide["fv"] < wide["zero_shot"]].to_numpy()}
    assert worse and {tuple(np.asarray(line.get_ydata())) for line in lines if line.get_linestyle() != "-"} == worse
    assert f"{len(worse)} worse" in words(figure) and "n = 8 trials" in words(figure)


def test_trials_without_all_conditions_are_left_out() -> None:
    rows = trial_rows().iloc[1:]
    assert "n = 7 trials" in words(before_and_after(rows))
    without = trial_rows().query("condition != 'few_shot'")
    assert set(before_and_after(without).table["condition"]) == {"zero_shot", "fv"}


WRONG: dict[str, tuple[Any, str]] = {
    "no minus": (lambda: contrast_forest(contrasts().drop(columns="minus")), "No column minus"),
    "other metric": (lambda: contrast_forest(contrasts(), "rank"), "one of logprob"),
    "subsets": (
        lambda: contrast_forest(pd.concat([contrasts().assign(subset=subset) for subset in "ab"])),
        "take the rows of one subset",
    ),
    "no cost": (lambda: effect_against_cost(held_out(("a",)), injection_cost(("b",))), "both an effect and a cost"),
    "many": (
        lambda: effect_against_cost(
            pd.concat([held_out().head(1).assign(condition=c) for c in "abcdefgh"]),
            pd.concat([injection_cost().head(1).assign(condition=c) for c in "abcdefgh"]),
        ),
        "8 conditions are too many",
    ),
    "no trial": (lambda: before_and_after(trial_rows().drop(columns="trial_id")), "No column trial_id"),
    "draws": (lambda: before_and_after(pd.concat([trial_rows()] * 2)), "Two rows for trial t0, condition zero_shot"),
    "one condition": (lambda: before_and_after(trial_rows().query("condition == 'fv'")), "Needed: two or more of"),
    "no trial left": (lambda: before_and_after(trial_rows().drop_duplicates("trial_id")), "Needed: two or more of"),
    "infinite": (lambda: before_and_after(trial_rows().assign(logprob=-np.inf)), "infinite"),
}


@pytest.mark.parametrize(("make", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_table_that_compares_nothing_is_refused_with_what_it_needs(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
