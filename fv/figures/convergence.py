"""Convergence of a ranking: agreement of the top k between samples of trials, against the number of trials."""

import pandas as pd
from matplotlib.ticker import MaxNLocator

from fv.figures.data_figure import COLUMN, DataFigure, legend_height, shortened, styled, width_of
from fv.figures.frames import whole_numbers
from fv.figures.lines import draw_groups, group_handles

UNITS = {
    "overlap_apart": "shared with other trials' top k (fraction)",
    "overlap_with_all": "shared with all trials' top k (fraction)",
    "spearman_apart": "rank correlation (ρ)",
}
"""{column: its label on the axis, with the unit}."""
_LEFT, _RIGHT, _TITLE, _AXIS, _DOWN, _HANDLE = 0.46, 0.08, 0.22, 0.36, 1.8, 2.6


def ranking_convergence(
    curves: pd.DataFrame, k: int, value: str = "overlap_apart", *, width: float = COLUMN
) -> DataFigure:
    """Plot the agreement of rankings against the number of trials that they are computed from, one line per ranking.

    Args:
        curves: one row per (ranking, number of trials): `ranking`, `n_trials` and the value, from the lists
            `convergence` of `ranking_stability.json`. A row without a value is left out.
        k: number of heads that count as the top.
        value: `overlap_apart`, `overlap_with_all` or `spearman_apart` (docs/methods.md, "Stability of a ranking").
        width: inches.

    Returns:
        a figure whose `table` has one row per point: `ranking`, `n_trials`, `value`.

    Raises:
        ValueError: a column is missing, no row has a value, or `value` is not one of these.
    """
    if value not in UNITS:
        raise ValueError(f"value={value!r}: it is one of {', '.join(UNITS)}.")
    missing = [name for name in ("ranking", "n_trials", value) if name not in curves]
    if missing:
        raise ValueError(f"No column {', '.join(missing)}. The figure needs ranking, n_trials and {value}.")
    kept = curves[curves[value].notna()].rename(columns={value: "value"})[["ranking", "n_trials", "value"]]
    if kept.empty:
        raise ValueError(f"No rows with {value}: it needs twice as many trials as a point has.")
    table = whole_numbers(kept, ["n_trials"]).astype({"value": float}).reset_index(drop=True)
    names = list(dict.fromkeys(table["ranking"]))
    handles = group_handles(names, "rankings")
    bottom = _TITLE + _DOWN + _AXIS
    with styled():
        figure = DataFigure(table, width, bottom + 0.06 + legend_height(handles, width - _LEFT, _HANDLE))
        of, tail = f" of {names[0]}" if len(names) == 1 else "s of heads", f", k = {k} heads"
        figure.text_at(_LEFT, 0.06, shortened(f"Ranking{of}", width - _LEFT - width_of(tail)) + tail)
        axes = figure.axes_at(_LEFT, _TITLE, width - _LEFT - _RIGHT, _DOWN)
        draw_groups(axes, table, "ranking", "n_trials")
        axes.set(xlabel="n, trials in each ranking", ylabel=UNITS[value], ylim=(min(0.0, table["value"].min()), 1.02))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        if table["n_trials"].nunique() == 1:
            axes.set_xlim(table["n_trials"].iloc[0] - 1, table["n_trials"].iloc[0] + 1)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.legend_at(_LEFT, bottom, handles, _HANDLE)
    return figure
