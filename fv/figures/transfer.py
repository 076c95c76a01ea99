"""Transfer matrix: the effect of each relation's vector on each relation (Todd et al. 2024, section 4)."""

import numpy as np
import pandas as pd

from fv.figures.data_figure import COLUMN, DataFigure
from fv.figures.frames import counted, excludes_zero, interval_name, unit_of, values_of
from fv.figures.matrix import about_zero, matrix_figure

_ENDS = {"effect": ("ci_low", "ci_high"), "effect_minus_control": ("control_ci_low", "control_ci_high")}
_WORDS = {"effect": "Effect of each vector", "effect_minus_control": "Effect minus random vectors'"}


def transfer_heatmap(
    transfer: pd.DataFrame,
    value: str = "effect",
    *,
    limit: float | None = None,
    confidence: float | None = None,
    width: float = COLUMN,
) -> DataFigure:
    """Draw vector × relation, coloured by the change in log p of the right answer, symmetric about zero.

    Rows and columns are in the table's order. A pair that was not run is hatched.

    Args:
        transfer: one row per (fv, eval_qid), as in `transfer.csv`: `fv`, `eval_qid`, `n`, the value and its interval.
        value: `effect`, relative to the prompt without a vector, or `effect_minus_control`, relative to random vectors.
        limit: the value at either end of the colours; by default the largest absolute value of the table.
        confidence: level of the intervals, for the legend.
        width: inches.

    Returns:
        a figure whose `table` has one row per cell: `vector`, `relation`, `value`, `ci_low`, `ci_high`, `n`, `n_of`,
        `measured`, `excludes_zero`.

    Raises:
        ValueError: a column is missing, there is no row, a pair has two rows, a value is infinite, or `value` is not
            one of these.
    """
    if value not in _ENDS:
        raise ValueError(f"value={value!r}: it is effect or effect_minus_control.")
    low, high = _ENDS[value]
    named = {value: "delta_logprob", low: "ci_low", high: "ci_high"}
    own = [name for name in ("fv", "eval_qid", *named, "n", "measured") if name in transfer]
    keys = ["fv", "eval_qid"]
    found = values_of(transfer[own].rename(columns=named), "delta_logprob", keys)
    every = pd.MultiIndex.from_product([transfer[name].unique() for name in keys], names=keys).to_frame(index=False)
    table = every.merge(found.drop(columns="chosen"), on=keys, how="left")
    table = table.rename(columns={"fv": "vector", "eval_qid": "relation"})
    table["measured"] = table["measured"].eq(True)
    table["value"] = table["value"].where(table["measured"], np.nan)
    table["excludes_zero"] = excludes_zero(table)
    scale = about_zero(unit_of("delta_logprob", None), table["value"], limit)
    title = (_WORDS[value], f", n = {counted(table)} per cell")
    return matrix_figure(table, scale, title, interval_name(confidence), width)
