"""Inclusion probabilities: the probability of each of the best heads to be among the top k of resampled trials."""

import pandas as pd
from matplotlib.patches import Patch

from fv.figures.data_figure import COLUMN, INK, SMALL, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import whole_numbers

_LEFT, _RIGHT, _EDGE, _TITLE, _ROW, _AXIS, _HANDLE = 0.5, 0.3, 0.06, 0.24, 0.12, 0.36, 1.2
_NEEDED = ("rank", "layer", "head", "inclusion")


def inclusion_probabilities(
    heads: pd.DataFrame, k: int, n_trials: int, *, most: int = 20, width: float = COLUMN
) -> DataFigure:
    """Plot one bar per head, best first: how often it is among the top k when the trials are resampled.

    Bars of the top k are dark, bars of the next heads light.

    Args:
        heads: rows of one ranking of `head_stability.csv`: `rank` (from 1), `layer`, `head`, `inclusion`.
        k: number of heads that count as the top.
        n_trials: number of drawn trials per relation.
        most: largest number of heads to show.
        width: inches.

    Returns:
        a figure whose `table` has one row per bar: `rank`, `layer`, `head`, `inclusion`, `chosen`.

    Raises:
        ValueError: a column is missing, there is no row, a rank has two rows, or an inclusion is not a probability.
    """
    missing = [name for name in _NEEDED if name not in heads]
    if missing or heads.empty:
        raise ValueError(f"No {'column ' + ', '.join(missing) if missing else 'rows'}. Needed: {', '.join(_NEEDED)}.")
    ranked = whole_numbers(heads, ["rank", "layer", "head"]).sort_values("rank")
    if ranked["rank"].duplicated().any():
        raise ValueError("Two rows have the same rank: take the rows of one ranking.")
    if not ranked["inclusion"].between(0, 1).all():
        raise ValueError("`inclusion` holds a number that is not a probability.")
    table = ranked.head(most)[list(_NEEDED)].assign(chosen=lambda rows: rows["rank"] <= k).reset_index(drop=True)
    handles = [
        Patch(facecolor=colour, edgecolor=INK, linewidth=0.5, label=label)
        for colour, label, there in (
            (INK, f"top {k}", table["chosen"].any()),
            ("white", "next heads", (~table["chosen"]).any()),
        )
        if there
    ]
    down = _ROW * len(table)
    bottom = _TITLE + down + _AXIS
    with styled():
        figure = DataFigure(table, width, bottom + legend_height(handles, width - _EDGE, _HANDLE) + _EDGE)
        name = f" of {heads['ranking'].iloc[0]}" if "ranking" in heads else ""
        tail = f", k = {k}, n = {n_trials} trials"
        figure.text_at(_EDGE, _EDGE, shortened(f"Top heads{name}", width - 2 * _EDGE - width_of(tail)) + tail)
        axes = figure.axes_at(_LEFT, _TITLE, width - _LEFT - _RIGHT, down)
        colours = [INK if chosen else "white" for chosen in table["chosen"]]
        axes.barh(range(len(table)), table["inclusion"], 0.7, color=colours, edgecolor=INK, linewidth=0.5)
        for place, share in enumerate(table["inclusion"]):
            axes.text(share + 0.015, place, f"{share:.2f}", fontsize=SMALL, va="center")
        axes.set_yticks(range(len(table)), [f"{layer}.{head}" for layer, head in table[["layer", "head"]].to_numpy()])
        axes.set(xlim=(0, 1), ylim=(len(table) - 0.5, -0.5), xlabel="inclusion in the top k (probability)")
        axes.set_ylabel("layer.head")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.legend_at(_EDGE, bottom, handles, _HANDLE)
    return figure
