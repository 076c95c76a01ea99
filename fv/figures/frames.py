"""Tables as figures need them: one value with its interval, and what n is, from each shape that a run's files have."""

from collections.abc import Sequence

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
"""{value column or metric: how an axis calls it, with its unit}."""
_OTHERS = ("fv", "eval_qid", "q_id", "metric", "draw", "subset")
_COUNTS = {"n_trials": "trials", "n_qids": "relations", "n": "trials", "n_test": "trials"}


def unit_of(value: str, unit: str | None) -> str:
    """What an axis says of a value.

    Raises:
        ValueError: the value is none of `UNITS` and no unit is given.
    """
    if unit is None and value not in UNITS:
        raise ValueError(f"Say what `{value}` is measured in: unit='…'. Known without: {', '.join(UNITS)}.")
    return unit or UNITS[value]


def values_of(
    table: pd.DataFrame, value: str, keys: Sequence[str], optional: Sequence[str] = (), needs_n: bool = True
) -> pd.DataFrame:
    """One row a place of a figure.

    Args:
        table: either a column named as `value`, with `ci_low` and `ci_high` or `<value>_ci_low` and `<value>_ci_high`
            where there are intervals (`cie_scores.csv`, the rows of `eval_summary.json`), or a column `metric` with
            `value` among its values, and `mean`, `ci_low`, `ci_high` (`cie_stats.csv`, `held_out.csv`). Beside other
            values, a bare `ci_low` is of `mean_delta_logprob`.
        value: the value.
        keys: the columns that name a place, which must be there.
        optional: columns that name it too where they are there.
        needs_n: whether each measured row must say its n.

    Returns:
        the keys that there are, `value`, `ci_low`, `ci_high` (NaN where there is no interval), `n`, `n_of` (trials or
        relations), `chosen` and `measured`, in order of the keys.

    Raises:
        ValueError: a column is missing, there is no row, a place has two rows, a value is infinite, or an interval may
            be another value's.
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
    """The table with these columns as integers.

    Raises:
        ValueError: a value is no whole number from 0 on.
    """
    for name in names:
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table.loc[~(numbers >= 0) | (numbers % 1 != 0), name].tolist()
        if wrong:
            raise ValueError(f"`{name}` holds {wrong[0]!r}: whole numbers from 0 on are needed.")
    return table.astype(dict.fromkeys(names, int))


def counted(rows: pd.DataFrame) -> str:
    """What n is: `12 trials`, or `8–12 trials` where places differ."""
    texts = []
    for n_of, group in rows[rows["measured"]].groupby("n_of", sort=False):
        least, most = int(group["n"].min()), int(group["n"].max())
        texts.append(f"{least}{'' if least == most else f'–{most}'} {n_of}")
    return ", ".join(texts) or "0 trials"


def called(condition: str) -> str:
    """A condition as a reader says it: `few_shot` is few-shot, `fv` is vector."""
    return "vector" if condition == "fv" else condition.replace("_shot", "-shot").replace("_", " ")


def excludes_zero(rows: pd.DataFrame) -> pd.Series:
    """Whether an interval lies on one side of zero; False where there is none, or nothing was measured."""
    return rows["measured"] & ((rows["ci_low"] > 0) | (rows["ci_high"] < 0))


def interval_name(confidence: float | None) -> str:
    """`95 % interval`, or `interval` where its level is not known."""
    return "interval" if confidence is None else f"{confidence * 100:g} % interval"


def _rows_of(table: pd.DataFrame, value: str) -> pd.DataFrame:
    rows = table[table["metric"] == value]
    if rows.empty and len(table):
        raise ValueError(f"No row has the metric {value}. There are: {', '.join(sorted(set(table['metric'])))}.")
    return rows


def _ends(table: pd.DataFrame, value: str) -> tuple[pd.Series, pd.Series]:
    """Lower and upper ends. Of several values, those without a value's name are the first one's of `UNITS`."""
    others = [each for each in UNITS if each in table and each != value]
    bare = "ci_low" in table and f"{value}_ci_low" not in table
    if bare and others and value != next(iter(UNITS)):
        raise ValueError(f"Is `ci_low` of {value} or of {others[0]}? Call it {value}_ci_low, or drop the other column.")
    none = pd.Series(np.nan, index=table.index)
    low, high = (table.get(f"{value}_{end}", table.get(end, none)).astype(float) for end in ("ci_low", "ci_high"))
    return low, high


def _counts(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """n of each row and what it counts: the first of the columns of `_COUNTS` that has a value there."""
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
