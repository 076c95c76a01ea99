"""Matrices of named rows and columns, coloured by a value, for transfer, cosines and sets of heads."""

from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import HATCHED, INK, SMALL, DataFigure, legend_height, shortened, styled, width_of

# Inches: margins around the cells; a cell; the widest name; the colour bar and its labels.
_EDGE, _TITLE, _GAP, _BAR, _RIGHT, _HANDLE = 0.06, 0.24, 0.05, 0.08, 0.56, 1.2
_CELL, _NAME, _LINE = 0.42, 0.85, 0.1
_DARK = 0.45
"""Lightness of a cell below which its number is white."""


@dataclass(frozen=True)
class Scale:
    """Scale of colours, and format of numbers.

    Attributes:
        label: label of the colour bar, with the unit.
        low: the value at the lower end.
        high: the value at the upper end.
        digits: digits after the decimal point of a number in a cell.
    """

    label: str
    low: float
    high: float
    digits: int = 1

    @property
    def colours(self) -> str:
        """Name of a ColorBrewer map for colour-blind readers: diverging about zero, or from light to dark."""
        return "RdBu_r" if self.low < 0 else "YlGnBu"


def about_zero(label: str, values: pd.Series, limit: float | None, digits: int = 1) -> Scale:
    """Scale from -limit to limit; by default, the limit is the largest absolute value.

    Raises:
        ValueError: the limit is not above zero.
    """
    if limit is not None and not limit > 0:
        raise ValueError(f"limit={limit}: the colours go from -limit to limit, so it has to be above zero.")
    greatest = float(values.abs().max())
    end = limit or (greatest if greatest > 0 else 1.0)
    return Scale(label, -end, end, digits)


def matrix_figure(table: pd.DataFrame, scale: Scale, title: tuple[str, str], interval: str, width: float) -> DataFigure:
    """Draw a matrix with square cells.

    If numbers fit into the cells, they are written there, in bold if the interval excludes zero. Otherwise a dot marks
    an interval above zero, and a dash one below. Cells without a value are hatched. If there is not enough room for all
    names, only every second, fifth, … is written.

    Args:
        table: one row per cell: the first two columns name its row and column, in the order of drawing; `value`, NaN
            if there is none; and optionally `excludes_zero` and `ci_low`.
        scale: colours and format of values.
        title: the title, and the part of it that is never cut.
        interval: name of the intervals in the legend.
        width: inches.
    """
    below, beside = (list(dict.fromkeys(table[name])) for name in table.columns[:2])
    left = _EDGE + 0.16 + _widest(below)
    cell = min(_CELL, (width - left - _RIGHT) / len(beside))
    foot = 0.2 + _widest(beside)
    fits = cell >= max(width_of(_written(value, scale), SMALL) for value in (scale.low, scale.high)) + 0.03
    handles = _legend(table, fits, interval)
    under = _TITLE + cell * len(below) + foot
    with styled():
        figure = DataFigure(table, width, max(under, 1.0) + legend_height(handles, width - _EDGE, _HANDLE) + _EDGE)
        head, tail = title
        figure.text_at(_EDGE, _EDGE, shortened(head, width - 2 * _EDGE - width_of(tail)) + tail)
        axes = figure.axes_at(left, _TITLE, cell * len(beside), cell * len(below))
        _draw(axes, table, scale, (len(below), len(beside)), cell)
        _write(axes, table, scale, beside, below) if fits else _mark(axes, table, scale, beside, below, cell)
        _name(axes, table, beside, below, cell)
        bar = figure.axes_at(left + cell * len(beside) + _GAP, _TITLE, _BAR, min(1.6, max(0.5, cell * len(below))))
        _colour_bar(bar, table, scale)
        figure.legend_at(_EDGE, max(under, 1.0), handles, _HANDLE)
    return figure


def _draw(axes: Axes, table: pd.DataFrame, scale: Scale, shape: tuple[int, int], cell: float) -> None:
    axes.patch.set(**HATCHED, linewidth=0)
    shown = np.ma.masked_invalid(table["value"].to_numpy(float).reshape(shape))
    axes.imshow(shown, cmap=scale.colours, vmin=scale.low, vmax=scale.high, aspect="auto", interpolation="nearest")
    if cell > 0.1:
        axes.hlines(np.arange(shape[0] - 1) + 0.5, -0.5, shape[1] - 0.5, color="white", linewidth=0.5)
        axes.vlines(np.arange(shape[1] - 1) + 0.5, -0.5, shape[0] - 0.5, color="white", linewidth=0.5)


def _write(axes: Axes, table: pd.DataFrame, scale: Scale, beside: list[str], below: list[str]) -> None:
    """Write the value of each cell as a number."""
    sure = table["excludes_zero"] if "excludes_zero" in table else pd.Series(False, index=table.index)
    for (y, x), value, bold in zip(_places(table, beside, below), table["value"], sure, strict=True):
        if np.isfinite(value):
            text = axes.text(x, y, _written(value, scale), ha="center", va="center", color=_ink(value, scale))
            text.set(fontsize=SMALL, fontweight="bold" if bold else "normal")


def _mark(axes: Axes, table: pd.DataFrame, scale: Scale, beside: list[str], below: list[str], cell: float) -> None:
    """Draw dots and dashes at the cells whose interval excludes zero."""
    if "excludes_zero" not in table:
        return
    for marker, side, size in (("o", table["ci_low"] > 0, 0.3), ("_", table["ci_low"] <= 0, 0.6)):
        marked = table[table["excludes_zero"] & side]
        places = np.array(_places(marked, beside, below)).reshape(-1, 2)
        inks = [_ink(value, scale) for value in marked["value"]]
        width = 0.0 if marker == "o" else cell * 10
        axes.scatter(places[:, 1], places[:, 0], s=(size * cell * 72) ** 2, c=inks, marker=marker, linewidths=width)


def _places(table: pd.DataFrame, beside: list[str], below: list[str]) -> list[tuple[int, int]]:
    """Position, (row, column), of each cell."""
    rows, columns = ({name: at for at, name in enumerate(names)} for names in (below, beside))
    return [(rows[row], columns[column]) for row, column in table.iloc[:, :2].itertuples(index=False)]


def _name(axes: Axes, table: pd.DataFrame, beside: list[str], below: list[str], cell: float) -> None:
    """Write the names of rows and columns, or ticks if there is no room for all names."""
    for axis, names, turned in ((axes.xaxis, beside, True), (axes.yaxis, below, False)):
        step = next((each for each in (1, 2, 5, 10, 20, 50, 100) if cell * each >= _LINE), len(names))
        axis.set_ticks(range(0, len(names), step))
        axis.set_ticklabels([_cut(name) for name in names[::step]])
        if turned:
            axes.tick_params(axis="x", labelrotation=90)
    axes.tick_params(length=0)
    axes.set(xlabel=table.columns[1], ylabel=table.columns[0])


def _cut(name: str) -> str:
    return shortened(str(name), _NAME, SMALL)


def _widest(names: list[str]) -> float:
    """Width of the widest name, in inches."""
    return max(width_of(_cut(name), SMALL) for name in names)


def _colour_bar(axes: Axes, table: pd.DataFrame, scale: Scale) -> None:
    # By rounding, a cosine of one is often above one by the last bit.
    slack = 1e-9 * (scale.high - scale.low)
    beyond = (table["value"].min() < scale.low - slack, table["value"].max() > scale.high + slack)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    colours = ScalarMappable(Normalize(scale.low, scale.high), matplotlib.colormaps[scale.colours])
    bar = axes.figure.colorbar(colours, cax=axes, extend=extend, label=scale.label)
    bar.outline.set_linewidth(0.5)
    bar.locator = MaxNLocator(4, symmetric=scale.low < 0)
    bar.update_ticks()


def _legend(table: pd.DataFrame, fits: bool, interval: str) -> list[Line2D | Patch]:
    """Legend entries for bold numbers, marks and hatches, as far as they are drawn."""
    handles: list[Line2D | Patch] = []
    if "excludes_zero" in table and (marked := table[table["excludes_zero"]]).size:
        if fits:
            handles.append(Line2D([], [], ls="", label=f"bold: {interval} excludes 0"))
        elif (marked["ci_low"] > 0).any():
            handles.append(Line2D([], [], color=INK, marker="o", ls="", markersize=3, label=f"{interval} > 0"))
        if not fits and (marked["ci_low"] <= 0).any():
            handles.append(Line2D([], [], color=INK, marker="_", ls="", markersize=4, label=f"{interval} < 0"))
    if table["value"].isna().any():
        handles.append(Patch(**HATCHED, linewidth=0, label="not measured"))
    return handles


def _written(value: float, scale: Scale) -> str:
    """Format a number for a cell; zero never has a minus sign."""
    return f"{round(value, scale.digits) + 0.0:.{scale.digits}f}".replace("-", "−")


def _ink(value: float, scale: Scale) -> str:
    red, green, blue, _ = matplotlib.colormaps[scale.colours](Normalize(scale.low, scale.high)(value))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < _DARK else INK
