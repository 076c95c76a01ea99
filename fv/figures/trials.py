"""Trials one by one: the right answer's log p without the vector, with it, and with examples."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, GREY, INK, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import called, unit_of
from fv.figures.lines import LineLook

CONDITIONS = ("zero_shot", "fv", "few_shot")
_LEFT, _RIGHT, _TITLE, _AXIS, _DOWN, _EDGE, _HANDLE = 0.46, 0.08, 0.22, 0.24, 1.7, 0.06, 2.0
_WORSE: LineLook = {"color": INK, "linewidth": 0.7, "linestyle": (0, (3, 1.5))}
_BETTER: LineLook = {"color": GREY, "linewidth": 0.6, "linestyle": "-"}
_MEAN: LineLook = {"color": INK, "linewidth": 1.6, "marker": "o", "markersize": 3.5}


def before_and_after(
    trials: pd.DataFrame,
    value: str = "logprob",
    conditions: Sequence[str] = CONDITIONS,
    *,
    width: float = COLUMN,
) -> DataFigure:
    """Draw one thin line per trial through the conditions, and their mean in black.

    A line is dashed if the value falls from the first condition to the second. A trial is left out if a condition lacks
    it.

    Args:
        trials: rows of `held_out_trials.jsonl` for one relation, one vector and one draw, with the rows of conditions
            without a vector: `condition`, `trial_id`, the value, and optionally `eval_qid`.
        value: `logprob`, of the answer's first token, or `answer_logprob`, of the whole answer.
        conditions: the conditions from left to right; a condition is left out if the table lacks it.
        width: inches.

    Returns:
        a figure whose `table` has one row per point: `trial_id`, `condition`, `value`, `worse` (whether its trial is
        dashed).

    Raises:
        ValueError: a column is missing, a trial has two rows of a condition, a value is infinite, the table has fewer
            than two of the conditions, no trial has all of them, or the unit of the value is not known.
    """
    label = unit_of(value, None)
    wide = _wide(trials, value, conditions)
    worse = wide.iloc[:, 1] < wide.iloc[:, 0]
    handles = [Line2D([], [], label=f"a trial: {n} better", **_BETTER) for n in [int((~worse).sum())] if n]
    handles += [Line2D([], [], label=f"{n} worse", **_WORSE) for n in [int(worse.sum())] if n]
    handles.append(Line2D([], [], label="mean", **_MEAN))
    bottom = _TITLE + _DOWN + _AXIS
    with styled():
        height = bottom + legend_height(handles, width - _LEFT, _HANDLE) + _EDGE
        figure = DataFigure(_long(wide, worse), width, height)
        relations = list(dict.fromkeys(trials["eval_qid"])) if "eval_qid" in trials else []
        of, tail = f": {relations[0]}" if len(relations) == 1 else "", f", n = {len(wide)} trials"
        figure.text_at(_EDGE, _EDGE, shortened(f"Trial by trial{of}", width - 2 * _EDGE - width_of(tail)) + tail)
        axes = figure.axes_at(_LEFT, _TITLE, width - _LEFT - _RIGHT, _DOWN)
        places = np.arange(wide.shape[1])
        for down, own in zip(worse, wide.to_numpy(float), strict=True):
            axes.plot(places, own, zorder=1 + down, **(_WORSE if down else _BETTER))
        axes.plot(places, wide.mean().to_numpy(float), zorder=3, **_MEAN)
        axes.set_xticks(places, [_words(str(name)) for name in wide.columns])
        axes.set(xlim=(-0.25, wide.shape[1] - 0.75), ylabel=label)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.legend_at(_LEFT, bottom, handles, _HANDLE)
    return figure


def _wide(trials: pd.DataFrame, value: str, conditions: Sequence[str]) -> pd.DataFrame:
    """Table of the trials that all conditions have: one row per trial, one column per condition."""
    missing = [name for name in ("condition", "trial_id", value) if name not in trials]
    if missing:
        raise ValueError(f"No column {', '.join(missing)}. The figure needs condition, trial_id and {value}.")
    own = trials[trials["condition"].isin(conditions)]
    twice = own[own.duplicated(["condition", "trial_id"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"Two rows for trial {row['trial_id']}, condition {row['condition']}: take the rows of one vector and draw."
        )
    there = [name for name in conditions if (own["condition"] == name).any()]
    if len(there) < 2:
        raise ValueError(f"Needed: two or more of {', '.join(conditions)}; given: {', '.join(there) or 'none'}.")
    wide = own.pivot(index="trial_id", columns="condition", values=value)[there].astype(float).dropna()
    if wide.empty:
        raise ValueError(f"No trial has a {value} in each of {', '.join(there)}.")
    if not np.isfinite(wide.to_numpy()).all():
        raise ValueError(f"{value} is infinite in a trial.")
    return wide


def _long(wide: pd.DataFrame, worse: pd.Series) -> pd.DataFrame:
    table = wide.reset_index().melt("trial_id", var_name="condition", value_name="value")
    return table.assign(worse=table["trial_id"].map(worse))


def _words(condition: str) -> str:
    return {"fv": "with vector", "zero_shot": "without"}.get(condition, called(condition))
