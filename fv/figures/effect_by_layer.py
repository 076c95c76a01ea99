"""Effect by layer: a vector's effect at each layer of injection, one line per alpha (Todd et al. 2024, figure 4)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, GREY, INK, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import called, counted, interval_name, unit_of, values_of, whole_numbers
from fv.figures.lines import LineLook, look, ring_handle

Baselines = pd.DataFrame | Mapping[str, float | Sequence[float]]

_LEFT, _RIGHT, _TITLE, _AXIS, _DOWN = 0.46, 0.08, 0.22, 0.36, 1.6
_HANDLE, _MOST_TICKS = 2.6, 12
_LEVEL_STYLES: list[Any] = [(0, (6, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)), (0, (3, 3))]
_DARK_GREY = "#4d4d4d"
_ZERO: LineLook = {"color": INK, "linewidth": 0.5}


def effect_by_layer(
    rows: pd.DataFrame,
    value: str = "mean_delta_logprob",
    *,
    unit: str | None = None,
    baselines: Baselines | None = None,
    confidence: float | None = None,
    width: float = COLUMN,
) -> DataFigure:
    """Plot a vector's effect against the layer of injection, one line per alpha, with bands of intervals.

    Alphas differ in lightness, dashes and markers, so they are distinguishable in grey. A ring marks the chosen cell.
    For a difference, a line at zero stands for the prompt without the vector.

    Args:
        rows: one row per cell, for one vector on one relation. Columns: `layer`, `alpha`; the value, in a column of its
            name or as `metric` and `mean`; `n_trials`; and optionally `ci_low` and `ci_high` (or `<value>_ci_low`,
            `<value>_ci_high`), `chosen` (true or false), `fv`, `eval_qid`. For example the `rows` of
            `eval_summary.json` for one `fv` and `eval_qid`, unchanged.
        value: name of a column, or of a metric in the column `metric`.
        unit: label of the axis; not needed for the values of a run's files.
        baselines: horizontal lines: {name: value, or (value, low, high)}; or a table with `condition`, the value (or
            `metric` and `mean`), and optionally `ci_low`, `ci_high`, `n`, such as rows of `held_out.csv`, one per
            condition. Its metric may be the value's name without `mean_`.
        confidence: level of the intervals, for the legend.
        width: inches.

    Returns:
        a figure whose `table` has one row per point and baseline: `kind` (cell or baseline), `layer`, `alpha`,
        `condition`, `value`, `ci_low`, `ci_high`, `n`, `n_of`, `chosen`, `measured`.

    Raises:
        ValueError: a column is missing, there is no row, a cell or a condition has two rows, a value is infinite, or
            the unit of the value is not known.
    """
    label = unit_of(value, unit)
    cells = whole_numbers(values_of(rows, value, ["alpha", "layer"]), ["layer"])
    levels = _levels(baselines, value)
    with styled():
        n, is_change = counted(cells), "delta" in value
        marks = _mark_handles(cells, levels, confidence, is_change)
        handles = [*_line_handles(cells), *_level_handles(levels, n), *marks]
        bottom = _TITLE + _DOWN + _AXIS
        below = legend_height(handles, width - _LEFT, _HANDLE)
        figure = DataFigure(_together(cells, levels), width, bottom + 0.06 + below)
        figure.text_at(_LEFT, 0.06, _title(rows, n, width - _LEFT))
        axes = figure.axes_at(_LEFT, _TITLE, width - _LEFT - _RIGHT, _DOWN)
        _draw_levels(axes, levels)
        _draw_cells(axes, cells)
        if is_change:
            axes.axhline(0, **_ZERO, zorder=1)
        axes.set(xlabel="layer of the injection", ylabel=label)
        layers = sorted(cells["layer"].unique())
        axes.set_xticks(layers[:: -(-len(layers) // _MOST_TICKS)])
        if len(layers) == 1:
            axes.set_xlim(layers[0] - 1, layers[0] + 1)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.legend_at(_LEFT, bottom, handles, _HANDLE)
    return figure


def _levels(baselines: Baselines | None, value: str) -> pd.DataFrame:
    """Baselines as one table, in the given order: `condition`, `value`, `ci_low`, `ci_high`, `n`, `n_of`."""
    if baselines is None or not len(baselines):
        return pd.DataFrame(columns=["condition", "value", "ci_low", "ci_high", "n", "n_of"])
    if not isinstance(baselines, pd.DataFrame):
        levels = [(name, *np.atleast_1d(np.asarray(level, dtype=float))) for name, level in baselines.items()]
        wrong = [str(level[0]) for level in levels if len(level) not in (2, 4)]
        if wrong:
            raise ValueError(f"The baseline {wrong[0]} is neither a value nor (value, low, high).")
        full = [level if len(level) == 4 else (*level, np.nan, np.nan) for level in levels]
        baselines = pd.DataFrame(full, columns=["condition", value, "ci_low", "ci_high"])
    bare = value.removeprefix("mean_")
    if value not in baselines and "metric" in baselines and not baselines["metric"].eq(value).any():
        value = bare
    order = list(dict.fromkeys(baselines["condition"])) if "condition" in baselines else []
    found = values_of(baselines, value, ["condition"], needs_n=False)
    return found.set_index("condition").loc[[name for name in order if name in set(found["condition"])]].reset_index()


def _together(cells: pd.DataFrame, levels: pd.DataFrame) -> pd.DataFrame:
    points = cells.assign(kind="cell")
    if levels.empty:
        return points.assign(condition="")
    table = pd.concat([points, levels.assign(kind="baseline")], ignore_index=True)
    return table.assign(condition=table["condition"].fillna(""))


def _title(rows: pd.DataFrame, n: str, width: float) -> str:
    """Title that names the vector, the relation and n."""
    names = {name: rows[name].iloc[0] for name in ("fv", "eval_qid") if name in rows}
    fv, eval_qid = names.get("fv"), names.get("eval_qid")
    of = f"vector of {fv}" if fv else "function vector"
    on = f" on {eval_qid}" if eval_qid and eval_qid != fv else ""
    tail = f", n = {n}"
    return shortened(f"Injected {of}{on}", width - width_of(tail)) + tail


def _draw_cells(axes: Axes, cells: pd.DataFrame) -> None:
    groups = list(cells.groupby("alpha", sort=True))
    # Without this shift, points of a single layer would hide one another.
    apart = min(0.2, 1.6 / len(groups)) if cells["layer"].nunique() == 1 else 0.0
    for index, (_, line) in enumerate(groups):
        style = look(index, len(groups))
        layers, low, high = (line[name].to_numpy(float) for name in ("layer", "ci_low", "ci_high"))
        layers = layers + apart * (index - (len(groups) - 1) / 2)
        effect = line["value"].where(line["measured"]).to_numpy(float)
        red, green, blue, _ = style["color"]
        face, edge = (red, green, blue, 0.18 if len(groups) <= 3 else 0.08), (red, green, blue, 0.5)
        axes.fill_between(layers, low, high, facecolor=face, edgecolor=edge, linewidth=0.3, zorder=2)
        # A band needs two neighbours.
        alone = _alone(np.isfinite(low) & np.isfinite(high))
        axes.vlines(layers[alone], low[alone], high[alone], color=style["color"], linewidth=0.8, zorder=2)
        axes.plot(layers, effect, zorder=3, **style)
        ring = (line["chosen"] & line["measured"]).to_numpy(bool)
        axes.scatter(layers[ring], effect[ring], s=40, facecolors="none", edgecolors=INK, linewidths=0.8, zorder=4)


def _alone(finite: np.ndarray) -> np.ndarray:
    """Mask of the points that have no finite neighbour."""
    padded = np.pad(finite, 1)
    return finite & ~padded[:-2] & ~padded[2:]


def _draw_levels(axes: Axes, levels: pd.DataFrame) -> None:
    for index, (_, row) in enumerate(levels.iterrows()):
        axes.axhspan(row["ci_low"], row["ci_high"], color=GREY, alpha=0.15, linewidth=0, zorder=0)
        axes.axhline(row["value"], color=_DARK_GREY, linestyle=_level_style(index), linewidth=0.9, zorder=1)


def _level_style(index: int) -> Any:
    return _LEVEL_STYLES[index % len(_LEVEL_STYLES)]


def _line_handles(cells: pd.DataFrame) -> list[Line2D]:
    alphas = sorted(cells["alpha"].unique())
    return [Line2D([], [], label=f"α = {alpha:g}", **look(i, len(alphas))) for i, alpha in enumerate(alphas)]


def _level_handles(levels: pd.DataFrame, n: str) -> list[Line2D]:
    """Legend entries of baselines, with n if it differs from the cells' n."""
    handles = []
    for index, (_, row) in enumerate(levels.iterrows()):
        own = "" if np.isnan(row["n"]) else f"{row['n']:g} {row['n_of']}"
        label = called(str(row["condition"])) + (f" (n = {row['n']:g})" if own not in ("", n) else "")
        handles.append(Line2D([], [], color=_DARK_GREY, linestyle=_level_style(index), linewidth=0.9, label=label))
    return handles


def _mark_handles(
    cells: pd.DataFrame, levels: pd.DataFrame, confidence: float | None, is_change: bool
) -> list[Line2D | Patch]:
    """Legend entries for the line at zero, the bands and the ring, as far as they are drawn."""
    handles: list[Line2D | Patch] = [Line2D([], [], label="no vector", **_ZERO)] if is_change else []
    if cells["ci_low"].notna().any() or levels["ci_low"].notna().any():
        handles.append(Patch(color=GREY, alpha=0.4, linewidth=0, label=interval_name(confidence)))
    if cells["chosen"].any():
        handles.append(ring_handle("chosen cell"))
    return handles
