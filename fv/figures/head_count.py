"""Number of heads: the effect of the vector of the k best heads, against k."""

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, GREY, INK, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import counted, interval_name, unit_of, values_of, whole_numbers
from fv.figures.lines import MOST_NAMED, draw_groups, group_handles, ring_handle

_LEFT, _RIGHT, _TITLE, _AXIS, _DOWN, _HANDLE = 0.46, 0.08, 0.22, 0.36, 1.6, 2.6


def effect_by_head_count(
    rows: pd.DataFrame,
    value: str = "mean_delta_logprob",
    *,
    unit: str | None = None,
    confidence: float | None = None,
    width: float = COLUMN,
) -> DataFigure:
    """Plot a vector's effect against its number of heads, one line per relation, with intervals.

    A ring marks the chosen k. For a difference, a line at zero stands for the prompt without the vector. With more than
    seven relations, each line is grey, and a black line is their mean.

    Args:
        rows: one row per (relation, k). Columns: `eval_qid`, `k`; the value, as in `effect_by_layer`; `n_trials` or
            `n_test`; and optionally the interval's ends and `chosen` (true or false). For example the rows of `chosen`
            in `eval_summary.json` for one kind of vector, each on its own relation.
        value: name of a column, or of a metric in the column `metric`.
        unit: label of the axis; not needed for the values of a run's files.
        confidence: level of the intervals, for the legend.
        width: inches.

    Returns:
        a figure whose `table` has one row per point: `eval_qid`, `k`, `value`, `ci_low`, `ci_high`, `n`, `n_of`,
        `chosen`, `measured`.

    Raises:
        ValueError: a column is missing, there is no row, a (relation, k) has two rows, a value is infinite, or the unit
            of the value is not known.
    """
    label = unit_of(value, unit)
    table = whole_numbers(values_of(rows, value, ["eval_qid", "k"]), ["k"])
    names = list(dict.fromkeys(table["eval_qid"]))
    is_change = "delta" in value
    handles = [*group_handles(names, "relations"), *_mark_handles(table, confidence, is_change)]
    bottom = _TITLE + _DOWN + _AXIS
    with styled():
        figure = DataFigure(table, width, bottom + 0.06 + legend_height(handles, width - _LEFT, _HANDLE))
        of, tail = f" on {names[0]}" if len(names) == 1 else "", f", n = {counted(table)}"
        figure.text_at(_LEFT, 0.06, shortened(f"Vectors of k heads{of}", width - _LEFT - width_of(tail)) + tail)
        axes = figure.axes_at(_LEFT, _TITLE, width - _LEFT - _RIGHT, _DOWN)
        draw_groups(axes, table, "eval_qid", "k")
        if is_change:
            axes.axhline(0, color=INK, linewidth=0.5, zorder=1)
        ring = table[table["chosen"] & table["measured"]] if len(names) <= MOST_NAMED else table.head(0)
        axes.scatter(ring["k"], ring["value"], s=40, facecolors="none", edgecolors=INK, linewidths=0.8, zorder=4)
        axes.set(xlabel="k, heads in the vector", ylabel=label, xscale="log")
        counts = sorted(table["k"].unique())
        axes.set_xticks(counts, [str(k) for k in counts])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.legend_at(_LEFT, bottom, handles, _HANDLE)
    return figure


def _mark_handles(table: pd.DataFrame, confidence: float | None, is_change: bool) -> list[Line2D | Patch]:
    """Legend entries for the line at zero, the bands and the ring, as far as they are drawn."""
    few = table["eval_qid"].nunique() <= MOST_NAMED
    handles: list[Line2D | Patch] = []
    if is_change:
        handles.append(Line2D([], [], label="no vector", color=INK, linewidth=0.5))
    if few and table["ci_low"].notna().any():
        handles.append(Patch(color=GREY, alpha=0.4, linewidth=0, label=interval_name(confidence)))
    if few and table["chosen"].any():
        handles.append(ring_handle("chosen k"))
    return handles
