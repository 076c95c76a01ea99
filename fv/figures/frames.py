"""Frames: tables in the form that figures need, one value with its interval and n, from any form of a run's files."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

UNITS = {
    "mean_delta_logprob": "Δ log p (nats)",
    "delta_logprob": "Δ log p (nats)",
    "delta_answer_logprob": "Δ log p of the answer (nats)",
    "injected_logprob": "log p (nats)",
    "logprob": "log p (nats)",
    "answer_logprob": "log p of the answer (nats)",
    "mean_delta_p": "Δ p (probability)",
    "delta_p": "Δ p (probability)",
    "p": "p (probability)",
    "accuracy_delta": "Δ accuracy (fraction)",
    "injected_accuracy": "accuracy (fraction)",
    "top1": "accuracy (fraction)",
    "exact_match": "exact match (fraction)",
    "harm_rate": "harm rate (fraction)",
    "kl": "KL divergence (nats)",
}
"""{value column or metric: its label on an axis, with the unit}."""
_OTHERS = ("fv", "eval_qid", "q_id", "metric", "draw", "subset")
_COUNTS = {"n_trials": "trials", "n_qids": "relations", "n": "trials", "n_test": "trials"}


def unit_of(value: str, unit: str | None) -> str:
    """Label of a value on an axis.

    Raises:
        ValueError: the value is not in `UNITS` and no unit is given.
    """
    if unit is None and value not in UNITS:
        raise ValueError(f"Give the unit of `{value}`: unit='…'. Not needed for: {', '.join(UNITS)}.")
    return unit or UNITS[value]


def values_of(
    table: pd.DataFrame, value: str, keys: Sequence[str], optional: Sequence[str] = (), needs_n: bool = True
) -> pd.DataFrame:
    """Extract one value with its interval and n, one row per place of a figure.

    Args:
        table: a table in one of two forms. Either it has a column named like `value`, optionally with `ci_low` and
            `ci_high` or `<value>_ci_low` and `<value>_ci_high` (`cie_scores.csv`, the rows of `eval_summary.json`). Or
            it has a column `metric` that contains `value`, and `mean`, `ci_low`, `ci_high` (`cie_stats.csv`,
            `held_out.csv`). If there are several values, a bare `ci_low` belongs to `mean_delta_logprob`.
        value: name of the value.
        keys: columns that identify a place; all are required.
        optional: columns that identify it as well, if the table has them.
        needs_n: whether each measured row must have an n.

    Returns:
        the keys of the table, `value`, `ci_low`, `ci_high` (NaN without an interval), `n`, `n_of` (trials or
        relations), `chosen` and `measured`, sorted by the keys.

    Raises:
        ValueError: a column is missing, there is no row, a place has two rows, a value is infinite, or it is not clear
            which value an interval belongs to.
    """
    column = "mean" if "metric" in table and value not in table else value
    wanted = f"{', '.join(keys)} and {value} (or metric and mean)" + ", and n_trials or n_qids" * needs_n
    missing = [name for name in (*keys, column) if name not in table]
    if missing:
        raise ValueError(f"No column {', '.join(missing)}. The figure needs {wanted}; given: {_names(table)}.")
    if column != value:
        table = _rows_of(table, value)
    if table.empty:
        raise ValueError(f"No rows. The figure needs {wanted}.")
    places = [name for name in (*optional, *keys) if name in table]
    measured = table[column].notna() & (~table["measured"].eq(False) if "measured" in table else True)
    n, n_of = _counts(table)
    if needs_n and n[measured].isna().any():
        raise ValueError(f"No n: the figure needs {wanted}, such as table.assign(n_trials=12).")
    low, high = _ends(table, value)
    found = table[places].assign(
        value=table[column].astype(float),
        ci_low=low,
        ci_high=high,
        n=n,
        n_of=n_of,
        chosen=table["chosen"].eq(True) if "chosen" in table else False,
        measured=measured,
    )
    twice = found[found.duplicated(places)]
    if len(twice):
        others = [name for name in _OTHERS if name in table and name not in places and table[name].nunique() > 1]
        hint = f": take the rows of one {', one '.join(others)}" if others else ""
        raise ValueError(f"Two rows for {_place(twice.iloc[0], places)}{hint}.")
    infinite = found[np.isinf(found["value"])]
    if len(infinite):
        raise ValueError(f"{value} is infinite at {_place(infinite.iloc[0], places)}.")
    return found.sort_values(places, kind="stable").reset_index(drop=True)


def whole_numbers(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Convert these columns of a table to integers.

    Raises:
        ValueError: a value is not a whole number of 0 or more.
    """
    for name in names:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table.loc[~(numbers >= 0) | (numbers % 1 != 0), name].tolist()
        if wrong:
            raise ValueError(f"`{name}` holds {wrong[0]!r}; it needs whole numbers of 0 or more.")
    return table.astype(dict.fromkeys(names, int))


def counted(rows: pd.DataFrame) -> str:
    """Text of n: `12 trials`, or `8–12 trials` if places differ."""
    texts = []
    for n_of, group in rows[rows["measured"]].groupby("n_of", sort=False):
        least, most = int(group["n"].min()), int(group["n"].max())
        texts.append(f"{least}{'' if least == most else f'–{most}'} {n_of}")
    return ", ".join(texts) or "0 trials"


def called(condition: str, names: Mapping[str, str] | None = None) -> str:
    """Name of a condition in words, from `names` if it is there: `few_shot` becomes few-shot, `fv` becomes vector."""
    if names and condition in names:
        return names[condition]
    return "vector" if condition == "fv" else condition.replace("_shot", "-shot").replace("_", " ")


def excludes_zero(rows: pd.DataFrame) -> pd.Series:
    """Mask of the rows whose interval lies on one side of zero; False without an interval or a measured value."""
    return rows["measured"] & ((rows["ci_low"] > 0) | (rows["ci_high"] < 0))


def interval_name(confidence: float | None) -> str:
    """Name of the intervals: `95 % interval`, or `interval` if the level is not known."""
    return "interval" if confidence is None else f"{confidence * 100:g} % interval"


def _rows_of(table: pd.DataFrame, value: str) -> pd.DataFrame:
    rows = table[table["metric"] == value]
    if rows.empty and len(table):
        raise ValueError(f"No row has the metric {value}. There are: {', '.join(sorted(set(table['metric'])))}.")
    return rows


def _ends(table: pd.DataFrame, value: str) -> tuple[pd.Series, pd.Series]:
    """Lower and upper ends of intervals. If there are several values, unnamed ends belong to the first of `UNITS`."""
    others = [each for each in UNITS if each in table and each != value]
    bare = "ci_low" in table and f"{value}_ci_low" not in table
    if bare and others and value != next(iter(UNITS)):
        raise ValueError(f"Is `ci_low` of {value} or of {others[0]}? Call it {value}_ci_low, or drop the other column.")
    none = pd.Series(np.nan, index=table.index)
    low, high = (table.get(f"{value}_{end}", table.get(end, none)).astype(float) for end in ("ci_low", "ci_high"))
    return low, high


def _counts(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Each row's n and the noun that it counts, from the first column of `_COUNTS` that has a value in the row."""
    n, n_of = pd.Series(np.nan, index=table.index), pd.Series("", index=table.index, dtype=object)
    for name, what in _COUNTS.items():
        if name in table:
            n_of = n_of.where(n.notna() | table[name].isna(), what)
            n = n.fillna(table[name].astype(float))
    return n, n_of


def _names(table: pd.DataFrame) -> str:
    return ", ".join(map(str, table.columns)) or "none"


def _place(row: pd.Series, places: Sequence[str]) -> str:
    return ", ".join(f"{name} {row[name]}" for name in places)
