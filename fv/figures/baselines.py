"""Ways to make a vector compared: effect with its interval, and effect against cost."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, GREY, INK, SMALL, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import called, interval_name

CHOICES = {"best": "best on dev trials", "within_budget": "within the budget of harm"}
"""{choice of an option: its name in the legend}."""
BASELINES = ("few_shot", "few_shot_corrupted")
_EDGE, _TITLE, _ROW, _AXIS, _NAME, _HANDLE, _GAP = 0.06, 0.24, 0.15, 0.36, 1.3, 1.4, 0.14


def baselines_figure(table: pd.DataFrame, *, confidence: float | None = None, width: float = 2 * COLUMN) -> DataFigure:
    """Plot one row per way to make a vector: its effect, its cost on unrelated texts, and its distance from few-shot.

    Rows are sorted by effect. With several relations, marks are means over relations with intervals over relations, and
    dots are single relations.

    Args:
        table: `baselines.csv`: `eval_qid` (empty for the mean over relations), `condition`, `choice`, `label`, and
            `delta_logprob`, `kl` and `d_ntp`, each with `_ci_low` and `_ci_high`.
        confidence: level of the intervals, for the legend.
        width: inches.

    Returns:
        a figure whose `table` has the drawn rows, from the top.

    Raises:
        ValueError: a column is missing, or there is no row.
    """
    needed = ["eval_qid", "condition", "choice", "label", "delta_logprob", "kl", "d_ntp"]
    if missing := [name for name in needed if name not in table]:
        raise ValueError(f"No column {', '.join(missing)}. The figure needs {', '.join(needed)}.")
    shown = table[table["condition"] != "zero_shot"].assign(eval_qid=table["eval_qid"].fillna(""))
    if shown.empty:
        raise ValueError("No rows: no way to make a vector was compared.")
    several = bool((shown["eval_qid"] == "").any())
    main = shown[shown["eval_qid"] == ""] if several else shown
    if main["eval_qid"].nunique() > 1:
        raise ValueError("Several relations and no mean over them: take the rows of one relation.")
    best = main[main["choice"] == "best"].sort_values("delta_logprob", ascending=False)
    order = {name: place for place, name in enumerate(best["condition"])}
    drawn = main.assign(_place=main["condition"].map(order)).sort_values(["_place", "choice"], ignore_index=True)
    labels = [
        called(name) if name in BASELINES else text for name, text in zip(best["condition"], best["label"], strict=True)
    ]
    left = _EDGE + max(width_of(shortened(text, _NAME, SMALL), SMALL) for text in labels) + 0.06
    handles = _legend(several, confidence)
    down = _ROW * len(order)
    bottom = _TITLE + down + _AXIS
    with styled():
        figure = DataFigure(
            drawn.drop(columns="_place"), width, bottom + legend_height(handles, width - left, _HANDLE) + _EDGE
        )
        of = f"mean of {shown['eval_qid'].nunique() - 1} relations" if several else str(main["eval_qid"].iloc[0])
        figure.text_at(_EDGE, _EDGE, shortened(f"Ways to make a vector, {of}", width - 2 * _EDGE))
        across = (width - left - _EDGE - 2 * _GAP) / 3
        panels = {
            "delta_logprob": "Δ log p (nats)",
            "kl": "cost: KL on unrelated texts (nats)",
            "d_ntp": "distance from few-shot (nats)",
        }
        for at, (metric, name) in enumerate(panels.items()):
            axes = figure.axes_at(left + at * (across + _GAP), _TITLE, across, down)
            _draw(axes, drawn, shown[shown["eval_qid"] != ""] if several else shown.head(0), metric, order)
            axes.set(xlabel=name, ylim=(len(order) - 0.5, -0.5))
            axes.set_yticks(range(len(order)), [shortened(text, _NAME, SMALL) for text in labels] if not at else [])
        figure.legend_at(left, bottom, handles, _HANDLE)
    return figure


def _draw(axes: Axes, main: pd.DataFrame, single: pd.DataFrame, metric: str, order: dict[str, int]) -> None:
    for choice in CHOICES:
        own = main[(main["choice"] == choice) & main[metric].notna()]
        if choice != "best":
            own = own[~own["condition"].isin(BASELINES)]
        shift = -0.16 if choice == "best" else 0.16
        y = own["condition"].map(order).to_numpy(float) + shift
        ends = [f"{metric}_ci_low", f"{metric}_ci_high"]
        if {*ends} <= {*own}:
            axes.hlines(y, own[ends[0]].astype(float), own[ends[1]].astype(float), color=INK, linewidth=0.7, zorder=2)
        axes.plot(own[metric].to_numpy(float), y, **_look(choice))
        dots = single[
            (single["choice"] == choice) & single[metric].notna() & single["condition"].isin(own["condition"])
        ]
        places = dots["condition"].map(order).to_numpy(float) + shift
        axes.plot(dots[metric].to_numpy(float), places, **_DOT)
    low, high = _range(main, metric)
    axes.axvline(0, color=INK, linewidth=0.5, zorder=0)
    axes.set_xlim(low, high)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _range(main: pd.DataFrame, metric: str) -> tuple[float, float]:
    """Range of the axis: that of the marks, since intervals over few relations can be far wider."""
    values = main[metric].dropna().to_numpy(float)
    low, high = min(0.0, float(np.min(values))), max(0.0, float(np.max(values)))
    margin = 0.25 * (high - low or 1.0)
    return low - margin * (low < 0) - 0.02 * margin, high + margin


def _look(choice: str) -> dict[str, Any]:
    face = INK if choice == "best" else "white"
    return {
        "linestyle": "",
        "marker": "o" if choice == "best" else "s",
        "markersize": 3.4,
        "markerfacecolor": face,
        "markeredgecolor": INK,
        "markeredgewidth": 0.7,
        "zorder": 3,
    }


_DOT: dict[str, Any] = {"linestyle": "", "marker": ".", "markersize": 2.0, "color": GREY, "zorder": 1}


def _legend(several: bool, confidence: float | None) -> list[Line2D]:
    handles = [Line2D([], [], label=name, **_look(choice)) for choice, name in CHOICES.items()]
    handles.append(Line2D([], [], color=INK, linewidth=0.7, label=interval_name(confidence)))
    return [*handles, *([Line2D([], [], label="single relation", **_DOT)] if several else [])]
