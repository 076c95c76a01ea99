"""Cosine matrix of relations' vectors."""

import pandas as pd

from fv.figures.data_figure import COLUMN, DataFigure
from fv.figures.matrix import Scale, matrix_figure


def cosine_heatmap(cosines: pd.DataFrame, *, width: float = COLUMN) -> DataFigure:
    """Vector × vector, coloured by cosine from -1 to 1.

    Args:
        cosines: a square table like `fv_cosines.csv`: the column `fv`, then one column per vector in the same order.
        width: inches.

    Returns:
        a figure whose `table` has one row per cell: `vector`, `other vector`, `value`.

    Raises:
        ValueError: the first column is not `fv`, there is no row, the table is not square, or a value is not a cosine.
    """
    if cosines.empty or cosines.columns[0] != "fv":
        raise ValueError("The figure needs a first column fv and a column for each vector, as fv_cosines.csv has.")
    # Columns are taken by position, since a vector may also be called fv.
    names, others = [str(name) for name in cosines.iloc[:, 0]], [str(name) for name in cosines.columns[1:]]
    if names != others:
        raise ValueError(f"Rows are {', '.join(names)} and columns {', '.join(others)}: they have to be the same.")
    values = cosines.iloc[:, 1:].to_numpy(float)
    if (abs(values) > 1 + 1e-6).any():
        raise ValueError(f"{values[abs(values) > 1 + 1e-6][0]:g} is no cosine.")
    table = pd.MultiIndex.from_product([names, names], names=["vector", "other vector"]).to_frame(index=False)
    title = ("Cosine between vectors", f", n = {len(names)} vectors")
    return matrix_figure(table.assign(value=values.ravel()), Scale("cosine (no unit)", -1, 1, 2), title, "", width)
