"""Transfer heat map: the effect of each vector on each relation (Todd et al. 2024, section 3.3)."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from fv.figures.data_figure import COLUMN, GREY, INK, SMALL, DataFigure, shortened, styled
from fv.figures.frames import UNITS

COLOURS = "RdBu_r"
# Inches: of a name beside the rows and above the columns, of the title, of a cell at most, and of the colour bar.
_NAME, _TITLE, _CELL, _BAR, _GAP, _RIGHT = 0.75, 0.22, 0.35, 0.08, 0.08, 0.42


def transfer_heatmap(table: pd.DataFrame, *, width: float = COLUMN) -> DataFigure:
    """Vector × relation, coloured by the mean change in the right answer's log probability, symmetric about zero.

    Pairs that were not evaluated are hatched.

    Args:
        table: `transfer.csv`: one row a (fv, eval_qid) with `n`, `effect`, `ci_low` and `ci_high`.
        width: inches.

    Returns:
        a figure whose `table` has a row for each cell: `fv`, `eval_qid`, `n`, `effect`, `ci_low`, `ci_high`.

    Raises:
        ValueError: a column is missing, there is no row, or a pair has two.
    """
    columns = ["fv", "eval_qid", "n", "effect", "ci_low", "ci_high"]
    if missing := [name for name in columns if name not in table]:
        raise ValueError(f"No column {', '.join(missing)}. The figure needs {', '.join(columns)}.")
    if table.empty or table.duplicated(["fv", "eval_qid"]).any():
        raise ValueError("The figure needs rows, one for each pair of fv and eval_qid.")
    effects = table.pivot(index="fv", columns="eval_qid", values="effect")  # (n_vectors, n_relations)
    limit = float(np.nanmax(effects.abs().to_numpy())) or 1.0
    n_rows, n_columns = effects.shape
    cell = min(_CELL, (width - _NAME - _GAP - _BAR - _RIGHT) / n_columns)
    across, down = cell * n_columns, cell * n_rows
    with styled():
        figure = DataFigure(table[columns].reset_index(drop=True), width, _TITLE + down + _NAME)
        figure.text_at(0.06, 0.06, shortened("Vector (row) injected into relation (column)", width - 0.12))
        axes = figure.axes_at(_NAME, _TITLE, across, down)
        axes.patch.set(facecolor="#e6e6e6", edgecolor=GREY, hatch="//////", linewidth=0)
        axes.imshow(
            np.ma.masked_invalid(effects.to_numpy()),
            cmap=COLOURS,
            vmin=-limit,
            vmax=limit,
            aspect="auto",
            interpolation="nearest",
        )
        _name(axes, effects)
        bar = figure.axes_at(_NAME + across + _GAP, _TITLE, _BAR, max(down, 0.5))
        colours = ScalarMappable(Normalize(-limit, limit), matplotlib.colormaps[COLOURS])
        figure.colorbar(colours, cax=bar, label=UNITS["delta_logprob"])
    return figure


def _name(axes: Axes, effects: pd.DataFrame) -> None:
    room = _NAME - 0.08
    names = ([shortened(str(name), room, SMALL) for name in names] for names in (effects.index, effects.columns))
    rows, columns = names
    axes.set_yticks(range(len(rows)), rows, color=INK)
    axes.set_xticks(range(len(columns)), columns, rotation=90, color=INK)
