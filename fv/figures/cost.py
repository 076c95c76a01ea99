"""Effect against cost: a vector's effect on its relation, against its effect on unrelated texts."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, GREY, INK, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import called, counted, interval_name, unit_of, values_of
from fv.figures.lines import MOST_NAMED, LineLook, look

_LEFT, _RIGHT, _TITLE, _AXIS, _DOWN, _EDGE, _HANDLE = 0.46, 0.14, 0.22, 0.36, 1.7, 0.06, 1.2
_KEYS = ["condition", "fv", "eval_qid", "draw"]


def effect_against_cost(
    held_out: pd.DataFrame,
    cost: pd.DataFrame,
    metric: str = "delta_logprob",
    *,
    names: Mapping[str, str] | None = None,
    confidence: float | None = None,
    width: float = COLUMN,
) -> DataFigure:
    """Plot one mark per (condition, vector, relation, draw): effect on test trials up, KL on unrelated texts right.

    Up and left is better. Conditions differ in marker and lightness. A row is left out if the other table lacks it: for
    example, few-shot prompts are not run on unrelated texts.

    Args:
        held_out: rows of `held_out.csv`, for one subset: `fv`, `eval_qid`, `condition`, `draw`, `metric`, `mean`,
            `ci_low`, `ci_high`, `n`.
        cost: rows of `injection_cost.csv`: the same columns, with the metric `kl`; n is the number of texts.
        metric: the effect's metric.
        names: {condition: its name}; others have their own name in words.
        confidence: level of the intervals, for the legend.
        width: inches.

    Returns:
        a figure whose `table` has one row per mark: `condition`, `fv`, `eval_qid`, `draw`, `value`, `ci_low`,
        `ci_high`, `n`, `kl`, `kl_ci_low`, `kl_ci_high`, `n_texts`.

    Raises:
        ValueError: a column is missing, no row is in both tables, a mark has two rows, a value is infinite, the
            metric's unit is not known, or there are more conditions than markers.
    """
    label = unit_of(metric, None)
    effects, costs = values_of(held_out, metric, _KEYS), values_of(cost, "kl", _KEYS)
    named = {"value": "kl", "ci_low": "kl_ci_low", "ci_high": "kl_ci_high", "n": "n_texts"}
    table = effects.merge(costs[[*_KEYS, *named]].rename(columns=named), on=_KEYS).dropna(subset=["value", "kl"])
    if table.empty:
        raise ValueError("No condition has both an effect and a cost.")
    shown = list(dict.fromkeys(table["condition"]))
    if len(shown) > MOST_NAMED:
        raise ValueError(f"{len(shown)} conditions are too many to distinguish: take {MOST_NAMED} or fewer.")
    handles = [Line2D([], [], label=called(name, names), **_look(at, len(shown))) for at, name in enumerate(shown)]
    whiskers = table[["ci_low", "kl_ci_low"]].notna().any(axis=None)
    if whiskers:
        handles.append(Line2D([], [], color=GREY, linewidth=0.6, label=interval_name(confidence)))
    bottom = _TITLE + _DOWN + _AXIS
    with styled():
        height = bottom + legend_height(handles, width - _LEFT, _HANDLE) + _EDGE
        figure = DataFigure(table.drop(columns=["chosen", "measured"]), width, height)
        relations = list(dict.fromkeys(table["eval_qid"]))
        of = relations[0] if len(relations) == 1 else f"{len(relations)} relations"
        tail = f", n = {counted(table)}, {table['n_texts'].max():g} texts"
        figure.text_at(_EDGE, _EDGE, shortened(f"Effect, cost: {of}", width - 2 * _EDGE - width_of(tail)) + tail)
        axes = figure.axes_at(_LEFT, _TITLE, width - _LEFT - _RIGHT, _DOWN)
        whisker = LineLook(color=GREY, linewidth=0.4)
        axes.vlines(table["kl"], table["ci_low"], table["ci_high"], zorder=1, **whisker)
        axes.hlines(table["value"], table["kl_ci_low"], table["kl_ci_high"], zorder=1, **whisker)
        for at, name in enumerate(shown):
            own = table[table["condition"] == name]
            axes.plot(own["kl"].to_numpy(), own["value"].to_numpy(), zorder=3 + (name == "fv"), **_look(at, len(shown)))
        if "delta" in metric:
            axes.axhline(0, color=INK, linewidth=0.5, zorder=0)
        axes.set(xlabel="cost: KL on unrelated texts (nats)", ylabel=label)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=6))
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.legend_at(_LEFT, bottom, handles, _HANDLE)
    return figure


def _look(index: int, n: int) -> LineLook:
    return {**look(index, n), "linestyle": "", "markersize": 3.4, "markeredgewidth": 0}
