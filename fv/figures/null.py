"""Null: contrasts of vectors beside those of the same relations with permuted outputs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from fv.figures.data_figure import COLUMN, INK, SMALL, DataFigure, legend_height, shortened, styled, width_of

SHOWN = {
    ("fv", "corrupted_prompts", "logprob"): "minus corrupted: log p (nats)",
    ("fv", "corrupted_prompts", "logit_difference"): "minus corrupted: logit difference",
    ("fv", "zero_shot", "logprob"): "minus zero-shot: log p (nats)",
    ("fv", "random_vector", "logprob"): "minus random vectors: log p (nats)",
}
"""{(condition, minus, metric): label of its axis}, from the top panel down."""
GREY = "0.6"
_EDGE, _TITLE, _ROW, _NULL, _GAP, _HANDLE = 0.06, 0.26, 0.14, 0.3, 0.46, 1.4


def null_figure(draws: pd.DataFrame, observed: pd.DataFrame, *, width: float = COLUMN) -> DataFigure:
    """Draw one panel per contrast: one dot per vector and, below, one dot per draw of the null.

    Args:
        draws: `null_draws.csv`: condition, minus, metric, mean, q_id, draw.
        observed: `null_p.csv`: fv, eval_qid, condition, minus, metric, mean, p_greater.
        width: inches.

    Returns:
        a figure whose `table` has one row per dot: condition, minus, metric, `of` (`null` or the vector), value.

    Raises:
        ValueError: a column is missing, or none of the shown contrasts has a draw.
    """
    for table, names in ((draws, ["q_id", "draw"]), (observed, ["fv", "p_greater"])):
        if missing := [name for name in ("condition", "minus", "metric", "mean", *names) if name not in table]:
            raise ValueError(f"No column {', '.join(missing)}.")
    panels = {key: own for key in SHOWN if len(own := _rows(draws, key))}
    if not panels:
        raise ValueError("No rows: none of the shown contrasts has a draw.")
    of_vectors = {key: _rows(observed, key).sort_values("mean", ascending=False) for key in panels}
    most = max(map(len, of_vectors.values()))
    names = [str(name) for own in of_vectors.values() for name in own["fv"]]
    left = _EDGE + max([width_of("null", SMALL), *(width_of(shortened(name, 1.1, SMALL), SMALL) for name in names)])
    height = _ROW * most + _NULL
    table = pd.concat([_dots(panels[key], of_vectors[key], key) for key in panels], ignore_index=True)
    handles = [
        Line2D([], [], color=INK, marker="o", markersize=3.2, linewidth=0, label="vector"),
        Line2D([], [], color=GREY, marker="|", markersize=6, linewidth=0, label="outputs permuted"),
    ]
    bottom = _TITLE + len(panels) * (height + _GAP)
    with styled():
        figure = DataFigure(table, width, bottom + legend_height(handles, width - _EDGE, _HANDLE) + _EDGE)
        n = draws[["q_id", "draw"]].drop_duplicates().shape[0]
        figure.text_at(_EDGE, _EDGE, f"Vectors and their null, n = {n} draws")
        for number, key in enumerate(panels):
            top = _TITLE + number * (height + _GAP)
            axes = figure.axes_at(left + 0.06, top, width - left - 0.06 - _EDGE, height)
            _draw(axes, panels[key], of_vectors[key])
            axes.set_xlabel(SHOWN[key])
        figure.legend_at(_EDGE, bottom, handles, _HANDLE)
    return figure


def _rows(table: pd.DataFrame, key: tuple[str, str, str]) -> pd.DataFrame:
    condition, minus, metric = key
    here = (table["condition"] == condition) & (table["minus"] == minus) & (table["metric"] == metric)
    return table[here].dropna(subset="mean")


def _dots(null: pd.DataFrame, vectors: pd.DataFrame, key: tuple[str, str, str]) -> pd.DataFrame:
    condition, minus, metric = key
    rows = [("null", value) for value in null["mean"]] + list(zip(vectors["fv"], vectors["mean"], strict=True))
    return pd.DataFrame(rows, columns=["of", "value"]).assign(condition=condition, minus=minus, metric=metric)


def _draw(axes: Axes, null: pd.DataFrame, vectors: pd.DataFrame) -> None:
    axes.axvline(0, color=INK, linewidth=0.5, zorder=1)
    axes.scatter(vectors["mean"], range(len(vectors)), s=12, color=INK, zorder=3)
    axes.scatter(null["mean"], [len(vectors) + 0.5] * len(null), s=40, color=GREY, marker="|", zorder=2)
    labels = [shortened(str(name), 1.1, SMALL) for name in vectors["fv"]]
    axes.set_yticks([*range(len(vectors)), len(vectors) + 0.5], [*labels, "null"])
    axes.set_ylim(len(vectors) + 1.2, -0.7)
    axes.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
