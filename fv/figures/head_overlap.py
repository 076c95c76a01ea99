"""Overlap of head sets: the share of their best heads that two relations have in common."""

import pandas as pd

from fv.figures.data_figure import COLUMN, DataFigure
from fv.figures.frames import whole_numbers
from fv.figures.matrix import Scale, matrix_figure


def overlap_heatmap(heads: pd.DataFrame, *, width: float = COLUMN) -> DataFigure:
    """Draw relation × relation, coloured by the share of the row's heads that are also the column's.

    Args:
        heads: one row per chosen head of a relation: `q_id`, `layer`, `head`. If there is a column `chosen` (true or
            false), only the chosen rows are used.
        width: inches.

    Returns:
        a figure whose `table` has one row per cell: `heads of`, `also of`, `value` (share), `shared` (count), `n`.

    Raises:
        ValueError: a column is missing, there is no row, or a relation has a head twice.
    """
    missing = [name for name in ("q_id", "layer", "head") if name not in heads]
    if missing:
        raise ValueError(f"No column {', '.join(missing)}. The figure needs q_id, layer and head.")
    kept = heads[heads["chosen"].eq(True)] if "chosen" in heads else heads
    kept = whole_numbers(kept[["q_id", "layer", "head"]], ["layer", "head"])
    if kept.empty:
        raise ValueError("No rows. The figure needs q_id, layer and head.")
    twice = kept[kept.duplicated()]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(f"Two rows for q_id {row['q_id']}, layer {row['layer']}, head {row['head']}.")
    sets = {q_id: set(zip(own["layer"], own["head"], strict=True)) for q_id, own in kept.groupby("q_id", sort=False)}
    cells = [
        (one, other, len(own & also) / len(own), len(own & also), len(own))
        for one, own in sets.items()
        for other, also in sets.items()
    ]
    table = pd.DataFrame(cells, columns=["heads of", "also of", "value", "shared", "n"])
    least, most = table["n"].min(), table["n"].max()
    title = ("Heads shared", f", n = {least}{'' if least == most else f'–{most}'} heads per relation")
    return matrix_figure(table, Scale("share of heads (fraction)", 0, 1, 2), title, "", width)
