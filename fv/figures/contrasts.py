"""Forest plot: the effect of a vector beyond each control and baseline, with intervals."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, INK, SMALL, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import called, counted, excludes_zero, interval_name, values_of
from fv.figures.lines import LineLook

UNITS = {
    "logprob": "difference of log p (nats)",
    "answer_logprob": "difference of log p of the answer (nats)",
    "p": "difference of p (probability)",
    "top1": "difference of accuracy (fraction)",
    "candidate_accuracy": "difference of accuracy among candidates (fraction)",
    "exact_match": "difference of exact match (fraction)",
}
"""{metric of `contrasts.csv`: its label on the axis, with the unit}."""
_EDGE, _TITLE, _ROW, _AXIS, _NAME, _N, _HANDLE = 0.06, 0.24, 0.13, 0.36, 1.1, 0.3, 1.4


def contrast_forest(
    contrasts: pd.DataFrame,
    metric: str = "logprob",
    *,
    names: Mapping[str, str] | None = None,
    confidence: float | None = None,
    width: float = COLUMN,
) -> DataFigure:
    """Plot one row per contrast: a mean difference and its interval; the mark is filled if this excludes zero.

    To the right of the line at zero the vector is better. With several relations, each comparison is a group with one
    row per relation; the number beside a row is its n.

    Args:
        contrasts: rows of `contrasts.csv`, for one vector per relation and one subset: `eval_qid`, `condition`,
            `minus`, `metric`, `mean`, `ci_low`, `ci_high`, `n`.
        metric: the metric whose rows are drawn.
        names: {condition: its name}; others have their own name in words.
        confidence: level of the intervals, for the legend.
        width: inches.

    Returns:
        a figure whose `table` has one row per drawn row, from the top: `condition`, `minus`, `eval_qid`, `value`,
        `ci_low`, `ci_high`, `n`, `n_of`, `excludes_zero`.

    Raises:
        ValueError: a column is missing, there is no row, a contrast has two rows, a value is infinite, or the metric's
            unit is not known.
    """
    if metric not in UNITS:
        raise ValueError(f"metric={metric!r}: it is one of {', '.join(UNITS)}.")
    table = _ordered(contrasts, values_of(contrasts, metric, ["condition", "minus", "eval_qid"]))
    several = table["eval_qid"].nunique() > 1
    lines = _lines(table, several, names or {})
    left = _EDGE + max(width_of(shortened(text, _NAME, SMALL), SMALL) for text, _ in lines)
    handles = _legend(table, confidence)
    down = _ROW * len(lines)
    bottom = _TITLE + down + _AXIS
    with styled():
        figure = DataFigure(table, width, bottom + legend_height(handles, width - _EDGE, _HANDLE) + _EDGE)
        tail = f", n = {counted(table.assign(measured=True))}"
        of = "Vectors" if several else f"Vector on {table['eval_qid'].iloc[0]}"
        figure.text_at(_EDGE, _EDGE, shortened(f"{of}: beyond controls", width - 2 * _EDGE - width_of(tail)) + tail)
        axes = figure.axes_at(left + 0.06, _TITLE, width - left - 0.06 - _N, down)
        _draw(axes, table, lines)
        axes.set(xlabel=UNITS[metric], ylim=(len(lines) - 0.5, -0.5))
        figure.legend_at(_EDGE, bottom, handles, _HANDLE)
    return figure


def _ordered(contrasts: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Measured contrasts, in the order in which the table names them."""
    keys = ["condition", "minus", "eval_qid"]
    places = {name: {each: at for at, each in enumerate(dict.fromkeys(contrasts[name]))} for name in keys}
    kept = found[found["measured"]].drop(columns=["chosen", "measured"])
    if kept.empty:
        raise ValueError("No rows: no contrast has a value.")
    order = kept[keys].apply(lambda column: column.map(places[str(column.name)])).sort_values(keys).index
    kept = kept.loc[order].reset_index(drop=True)
    return kept.assign(excludes_zero=excludes_zero(kept.assign(measured=True)))


def _lines(table: pd.DataFrame, several: bool, names: Mapping[str, str]) -> list[tuple[str, int | None]]:
    """Labels on the left, from the top, each with its row of the table; None for the name of a group."""
    lines: list[tuple[str, int | None]] = []
    for (condition, minus), own in table.groupby(["condition", "minus"], sort=False):
        before = "" if condition == "fv" else f"{called(str(condition), names)} "
        text = f"{before}− {called(str(minus), names)}"
        if several:
            lines += [(text, None), *((str(own.loc[at, "eval_qid"]), at) for at in own.index)]
        else:
            lines.append((text, own.index[0]))
    return lines


def _draw(axes: Axes, table: pd.DataFrame, lines: list[tuple[str, int | None]]) -> None:
    axes.axvline(0, color=INK, linewidth=0.5, zorder=1)
    places = {at: place for place, (_, at) in enumerate(lines) if at is not None}
    y = np.array([places[at] for at in table.index])
    # A missing end of an interval draws nothing.
    axes.hlines(y, table["ci_low"], table["ci_high"], color=INK, linewidth=0.8, zorder=2)
    for filled in (True, False):
        own = (table["excludes_zero"] == filled).to_numpy()
        face = INK if filled else "white"
        axes.scatter(table["value"][own], y[own], s=12, facecolors=face, edgecolors=INK, linewidths=0.7, zorder=3)
    # A group's name is in italics.
    axes.set_yticks(range(len(lines)), [shortened(text, _NAME, SMALL) for text, _ in lines])
    for tick, (_, at) in zip(axes.yaxis.get_major_ticks(), lines, strict=True):
        tick.label1.set_fontstyle("italic" if at is None else "normal")
    beside = axes.get_yaxis_transform()
    for place, n in zip(y.tolist(), table["n"], strict=True):
        axes.text(1.03, place, f"{n:g}", transform=beside, fontsize=SMALL, va="center")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _legend(table: pd.DataFrame, confidence: float | None) -> list[Line2D]:
    """Legend entries for the marks that are drawn."""
    interval = interval_name(confidence)
    words = {True: f"mean, {interval} excludes 0", False: f"mean, {interval} reaches 0"}
    if table["ci_low"].isna().all():
        words[False] = "mean"
    look = LineLook(color=INK, marker="o", markersize=3.2, linewidth=0.8)
    return [
        Line2D([], [], markerfacecolor=INK if filled else "white", label=text, **look)
        for filled, text in words.items()
        if (table["excludes_zero"] == filled).any()
    ]
