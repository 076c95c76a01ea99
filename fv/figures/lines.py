"""Lines of a figure that are distinguishable also in grey: one per alpha, or one per relation."""

from collections.abc import Sequence
from typing import Any, TypedDict

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fv.figures.data_figure import GREY, INK, shortened


class LineLook(TypedDict, total=False):
    """Look of a line, as keywords of matplotlib; lengths in points."""

    color: Any
    linewidth: float
    linestyle: Any
    marker: str
    markersize: float
    markeredgewidth: float


_STYLES: list[Any] = ["-", (0, (5, 1.5)), (0, (3, 1, 1, 1)), (0, (1, 1))]
_MARKERS = "osD^vPX"
MOST_NAMED = len(_MARKERS)
"""Largest number of groups with lines of their own. With more groups, all lines are grey and their mean is drawn."""
_NAME = 1.2
_ONE_OF_MANY: LineLook = {"color": GREY, "linewidth": 0.6, "linestyle": "-", "marker": ".", "markersize": 2.0}
_MEAN: LineLook = {"color": INK, "linewidth": 1.4, "linestyle": "-", "marker": ".", "markersize": 4.0}


def look(index: int, n: int) -> LineLook:
    """Style of line `index` of `n`: later lines are lighter, and each has its own dashes and marker."""
    return {
        "color": matplotlib.colormaps["viridis"](0.72 * index / max(1, n - 1)),
        "linestyle": _STYLES[index % len(_STYLES)],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linewidth": 1.0,
        "markersize": 2.8,
    }


def draw_groups(axes: Axes, table: pd.DataFrame, group: str, x: str) -> None:
    """Draw one line per group, in the table's order, with a band of its intervals; for many groups, also their mean.

    Args:
        axes: the axes to draw into.
        table: columns `group`, `x`, `value`, and optionally `ci_low` and `ci_high`.
        group: the column that names the line.
        x: the column of the horizontal axis.
    """
    names = list(dict.fromkeys(table[group]))
    for index, name in enumerate(names):
        own = table[table[group] == name].sort_values(x)
        places, values = own[x].to_numpy(float), own["value"].to_numpy(float)
        if len(names) > MOST_NAMED:
            axes.plot(places, values, zorder=2, **_ONE_OF_MANY)
            continue
        style = look(index, len(names))
        axes.plot(places, values, zorder=3, **style)
        if "ci_low" in own:
            red, green, blue, _ = style["color"]
            face, edge = (red, green, blue, 0.18 if len(names) <= 3 else 0.08), (red, green, blue, 0.5)
            low, high = own["ci_low"].to_numpy(float), own["ci_high"].to_numpy(float)
            axes.fill_between(places, low, high, facecolor=face, edgecolor=edge, linewidth=0.3, zorder=2)
    if len(names) > MOST_NAMED:
        mean = means_of_groups(table, x)
        axes.plot(mean[x].to_numpy(float), mean["value"].to_numpy(float), zorder=3, **_MEAN)


def group_handles(names: Sequence[object], word: str) -> list[Line2D]:
    """Legend entries of the lines; `word` is the plural noun for the groups."""
    if len(names) > MOST_NAMED:
        one, mean = f"one of {len(names)} {word}", f"mean over {word}"
        return [Line2D([], [], label=one, **_ONE_OF_MANY), Line2D([], [], label=mean, **_MEAN)]
    labels = [shortened(str(name), _NAME) for name in names]
    return [Line2D([], [], label=label, **look(index, len(names))) for index, label in enumerate(labels)]


def ring_handle(label: str) -> Line2D:
    """Legend entry of a ring around a mark."""
    return Line2D(
        [],
        [],
        linestyle="",
        marker="o",
        markersize=5.5,
        markerfacecolor="none",
        markeredgecolor=INK,
        markeredgewidth=0.8,
        label=label,
    )


def means_of_groups(table: pd.DataFrame, x: str) -> pd.DataFrame:
    """Mean of `value` over groups at each `x` that has the maximum number of groups."""
    counted = table.groupby(x)["value"].agg(["mean", "count"])
    whole = counted[counted["count"] == counted["count"].max()]
    return pd.DataFrame({x: np.asarray(whole.index), "value": whole["mean"].to_numpy()})
