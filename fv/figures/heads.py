"""Head heat map: the effect of every head, layer by layer (Todd et al. 2024, figure 3a)."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, HATCHED, INK, SMALL, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import counted, excludes_zero, interval_name, unit_of, values_of, whole_numbers

COLOURS = "RdBu_r"
"""ColorBrewer map for colour-blind readers: blue below zero, white at zero, red above."""
# Inches: margins around the panels, and parts of the panels.
_LEFT, _RIGHT, _TITLE, _NAME, _AXIS, _GAP, _BAR = 0.36, 0.62, 0.2, 0.15, 0.32, 0.1, 0.08
_CELL, _LEAST, _LEAST_ALONE, _MOST = 0.3, 0.5, 0.9, 2.4
_PANEL, _FEW, _EDGE = 1.0, 12, 0.06
_HANDLE = 1.2
_DARK = 0.55
"""Share of the strongest colour, from which on marks are white."""


def head_heatmap(
    scores: pd.DataFrame,
    value: str = "mean_delta_logprob",
    *,
    unit: str | None = None,
    shape: tuple[int, int] | None = None,
    limit: float | None = None,
    confidence: float | None = None,
    width: float = COLUMN,
) -> DataFigure:
    """Draw layer × head, coloured by effect, symmetric about zero; one panel per relation, all on one colour scale.

    A dot marks a head whose interval lies above zero, and a dash a head whose interval lies below, so the sign is
    visible in grey too. A frame marks a chosen head. Heads that were not measured are hatched. Intervals are those of
    the table: for each head alone, not corrected for the number of heads.

    Args:
        scores: one row per head, or per relation and head. Columns: `layer`, `head`; the value, in a column of its name
            or as `metric` and `mean`; `n_trials` or `n_qids`; and optionally `q_id`, `ci_low`, `ci_high`, `chosen` and
            `measured` (true or false). `cie_scores.csv`, `cie_stats.csv`, `aie_scores.csv` and `aie_stats.csv` can be
            used unchanged.
        value: name of a column, or of a metric in the column `metric`.
        unit: label of the colour bar; not needed for the values of a run's files.
        shape: (n_layers, n_heads) of the model; by default up to the last layer and head of the table.
        limit: the value at either end of the colours, for comparable figures; by default the largest absolute value of
            the table.
        confidence: level of the intervals, for the legend.
        width: inches.

    Returns:
        a figure whose `table` has one row per head of each panel: `q_id` if there was one, `layer`, `head`, `value`,
        `ci_low`, `ci_high`, `n`, `n_of`, `chosen`, `measured`, `excludes_zero`.

    Raises:
        ValueError: a column is missing, there is no row, a head has two rows or is outside of `shape`, a value is
            infinite, or the unit of the value is not known.
    """
    label = unit_of(value, unit)
    known = whole_numbers(values_of(scores, value, ["layer", "head"], ["q_id"]), ["layer", "head"])
    n_layers, n_heads = _checked(shape, known)
    table = _whole(known, n_layers, n_heads)
    names = list(dict.fromkeys(scores["q_id"])) if "q_id" in scores else [None]
    panels = {name: table if name is None else table[table["q_id"] == name] for name in names}
    greatest = float(table["value"].where(table["measured"]).abs().max())
    if limit is not None and not limit > 0:
        raise ValueError(f"limit={limit}: the colours go from -limit to limit, so it has to be above zero.")
    limit = limit or (greatest if greatest > 0 else 1.0)
    handles = _legend(table, interval_name(confidence))
    place = _Places(len(panels), n_layers, n_heads, width)
    with styled():
        below = legend_height(handles, width - _EDGE, _HANDLE)
        figure = DataFigure(table, width, place.bottom + _EDGE + below)
        title, in_panels = _titles(panels, scores)
        figure.text_at(_LEFT, _EDGE, shortened(title, width - _LEFT))
        for index, (name, rows) in enumerate(panels.items()):
            axes = figure.axes_at(*place.panel(index), place.across, place.down)
            _draw(axes, rows, n_layers, n_heads, limit, min(place.across / n_layers, place.down / n_heads))
            if name is not None and len(panels) > 1:
                tail = f", n = {counted(rows)}" if in_panels else ""
                head = shortened(str(name), place.slot - width_of(tail, SMALL), SMALL)
                axes.set_title(head + tail, fontsize=SMALL, pad=2)
            _label(axes, place, index, n_layers, n_heads)
        bar = figure.axes_at(place.right + 0.08, _TITLE + place.name, _BAR, min(place.grid, 1.6))
        _colour_bar(bar, label, limit, extend="both" if greatest > limit else "neither")
        figure.legend_at(_EDGE, place.bottom, handles, _HANDLE)
    return figure


@dataclass(frozen=True)
class _Places:
    """Positions of all parts, in inches from the figure's left and top."""

    n_panels: int
    n_layers: int
    n_heads: int
    width: float

    @property
    def columns(self) -> int:
        room = self.width - _LEFT - _RIGHT + _GAP
        least = 2 if self.n_panels <= _FEW else 3
        return 1 if self.n_panels <= 2 else min(self.n_panels, max(least, int(room / (_PANEL + _GAP))))

    @property
    def rows(self) -> int:
        return -(-self.n_panels // self.columns)

    @property
    def slot(self) -> float:
        """Largest width of a panel."""
        return (self.width - _LEFT - _RIGHT - (self.columns - 1) * _GAP) / self.columns

    @property
    def across(self) -> float:
        return min(self.slot, _CELL * self.n_layers)

    @property
    def down(self) -> float:
        least = _LEAST_ALONE if self.n_panels == 1 else _LEAST
        return min(max(self.n_heads * self.across / self.n_layers, least), _MOST)

    @property
    def name(self) -> float:
        """Height of a panel's name."""
        return _NAME if self.n_panels > 1 else 0.04

    @property
    def grid(self) -> float:
        """Height of all panels together."""
        return self.rows * (self.down + self.name) - self.name + (self.rows - 1) * _EDGE

    @property
    def right(self) -> float:
        return _LEFT + (self.columns - 1) * (self.slot + _GAP) + self.across

    @property
    def bottom(self) -> float:
        return _TITLE + self.name + self.grid + _AXIS

    def panel(self, index: int) -> tuple[float, float]:
        row, column = divmod(index, self.columns)
        return _LEFT + column * (self.slot + _GAP), _TITLE + self.name + row * (self.down + self.name + _EDGE)


def _checked(shape: tuple[int, int] | None, table: pd.DataFrame) -> tuple[int, int]:
    least = (int(table["layer"].max()) + 1, int(table["head"].max()) + 1)
    if shape is not None and (shape[0] < least[0] or shape[1] < least[1]):
        raise ValueError(f"shape={shape} is too small: the table goes to layer {least[0] - 1}, head {least[1] - 1}.")
    return shape or least


def _whole(table: pd.DataFrame, n_layers: int, n_heads: int) -> pd.DataFrame:
    """Complete the table to one row per head of the model, in order; added heads count as not measured."""
    names = ["q_id"] if "q_id" in table else []
    levels = [table[name].unique() for name in names] + [range(n_layers), range(n_heads)]
    every = pd.MultiIndex.from_product(levels, names=[*names, "layer", "head"]).to_frame(index=False)
    whole = every.merge(table, on=[*names, "layer", "head"], how="left")
    for name in ("chosen", "measured"):
        whole[name] = whole[name].eq(True)
    return whole.assign(excludes_zero=excludes_zero(whole))


def _titles(panels: dict[str | None, pd.DataFrame], scores: pd.DataFrame) -> tuple[str, bool]:
    """Title of the figure, and whether panels show their own n because it differs between them."""
    counts = {counted(rows) for rows in panels.values()}
    of_relations = "n_qids" in scores and "n_trials" not in scores
    what = "Average indirect effect of heads" if of_relations else "Indirect effect of heads"
    if len(panels) > 1:
        return (f"{what}, n = {counts.pop()} per relation", False) if len(counts) == 1 else (what, True)
    (name,) = panels
    tail = f", n = {counts.pop()}"
    return f"{what}: {shortened(str(name), 1.0)}{tail}" if name is not None else what + tail, False


def _draw(axes: Axes, rows: pd.DataFrame, n_layers: int, n_heads: int, limit: float, cell: float) -> None:
    axes.patch.set(**HATCHED, linewidth=0)
    shown = rows["value"].where(rows["measured"]).to_numpy().reshape(n_layers, n_heads).T
    axes.imshow(
        np.ma.masked_invalid(shown), cmap=COLOURS, vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest"
    )
    points = cell * 72
    for marker, side in (("o", rows["ci_low"] > 0), ("_", rows["ci_high"] < 0)):
        marked = rows[rows["excludes_zero"] & side]
        inks = ["white" if abs(each) > _DARK * limit else INK for each in marked["value"]]
        size, thickness = (0.4 * points, 0.0) if marker == "o" else (0.6 * points, points / 7)
        axes.scatter(marked["layer"], marked["head"], s=size**2, c=inks, marker=marker, linewidths=thickness)
    frames = [Rectangle((layer - 0.5, head - 0.5), 1, 1) for layer, head in _places_of(rows[rows["chosen"]])]
    drawn = PatchCollection(frames, clip_on=False, zorder=4, facecolor="none", edgecolor="black")
    drawn.set_linewidth(min(0.8, points / 5))
    axes.add_collection(drawn)
    axes.set(xlim=(-0.5, n_layers - 0.5), ylim=(n_heads - 0.5, -0.5))


def _places_of(rows: pd.DataFrame) -> list[tuple[int, int]]:
    return list(zip(rows["layer"].tolist(), rows["head"].tolist(), strict=True))


def _label(axes: Axes, place: _Places, index: int, n_layers: int, n_heads: int) -> None:
    """Draw ticks and names of the axes, at the outer panels only."""
    lowest, first = index + place.columns >= place.n_panels, index % place.columns == 0
    axes.set_xticks(_ticks(n_layers, place.across / 0.22))
    axes.set_yticks(_ticks(n_heads, place.down / 0.14))
    axes.tick_params(labelbottom=lowest, labelleft=first)
    axes.set_xlabel("layer" if lowest else "")
    axes.set_ylabel("head" if first else "")


def _ticks(n: int, most: float) -> list[int]:
    step = next((each for each in (1, 2, 5, 10, 20, 50, 100) if n / each <= max(1, most)), n)
    return list(range(0, n, step))


def _colour_bar(axes: Axes, label: str, limit: float, extend: str) -> None:
    colours = ScalarMappable(Normalize(-limit, limit), matplotlib.colormaps[COLOURS])
    bar = axes.figure.colorbar(colours, cax=axes, extend=extend, label=label)
    bar.outline.set_linewidth(0.5)
    bar.locator = MaxNLocator(4, symmetric=True)
    bar.update_ticks()


def _legend(table: pd.DataFrame, interval: str) -> Sequence[Line2D | Patch]:
    """Legend entries for the marks that are drawn."""
    marked = table[table["excludes_zero"]]
    handles: list[Line2D | Patch] = []
    if (marked["ci_low"] > 0).any():
        handles.append(Line2D([], [], color=INK, marker="o", ls="", markersize=3, label=f"{interval} > 0"))
    if (marked["ci_high"] < 0).any():
        handles.append(Line2D([], [], color=INK, marker="_", ls="", markersize=4, label=f"{interval} < 0"))
    if table["chosen"].any():
        handles.append(Patch(facecolor="none", edgecolor="black", linewidth=0.8, label="chosen"))
    if not table["measured"].all():
        handles.append(Patch(**HATCHED, linewidth=0, label="not measured"))
    return handles
