"""Headline in words and cells: a vector's effect, its specificity, and its p under the null."""

from collections.abc import Iterable

import pandas as pd

from fv.evaluation.headline import DECLARED
from fv.report.words import terminal_interval
from fv.runs.run import Run
from fv.tables import TableRow

UNCHANGED = "does not change measurably"
"""Phrase for a change whose interval contains zero, or that has no interval."""


def verb_of(low: float | None, high: float | None) -> str:
    """Verb for a change with this interval: raises, lowers, or does not change measurably.

    Args:
        low: lower end; None or NaN if there is none.
        high: upper end; None or NaN if there is none.
    """
    if low is not None and low > 0:
        return "raises"
    if high is not None and high < 0:
        return "lowers"
    return UNCHANGED


def is_specific(row: TableRow, level: float) -> bool:
    """Tell whether the declared contrast is above zero after Holm's adjustment over relations.

    Args:
        row: a row of `headline.csv`.
        level: level of the test, 1 minus the confidence of the intervals.
    """
    p, effect = row["p_holm"], row["minus_corrupted"]
    return p is not None and not pd.isna(p) and p < level and effect > 0


def null_ps(run: Run) -> dict[tuple[str, str], tuple[float, int]]:
    """{(vector, relation): (p of the declared contrast under the null, number of draws)}; empty without a null."""
    if "null_p" not in run.tables:
        return {}
    rows = run.table("null_p")
    condition, minus, metric = DECLARED
    own = rows[(rows["condition"] == condition) & (rows["minus"] == minus) & (rows["metric"] == metric)]
    columns = own[["fv", "eval_qid", "p_greater", "n_draws"]].itertuples(index=False)
    return {(str(fv), str(q_id)): (float(p), int(n)) for fv, q_id, p, n in columns}


def shown(row: TableRow, column: str, digits: int = 1) -> str:
    """Text of a number of the headline with its interval; a dash if it is missing."""
    if row[column] is None or pd.isna(row[column]):
        return "–"
    ends = (None if pd.isna(row[f"{column}_{end}"]) else row[f"{column}_{end}"] for end in ("ci_low", "ci_high"))
    return terminal_interval(row[column], *ends, digits)


def p_shown(p: float | None) -> str:
    """Text of a p-value with two decimal places; three below .01, and `<.001` for smaller values."""
    if p is None or pd.isna(p):
        return "–"
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 0.01 else f"{p:.2f}".lstrip("0") or "0"


def in_a_sentence(p: float) -> str:
    """Text of a p-value within a sentence: `p = .02`, `p < .001`."""
    told = p_shown(p)
    return f"p < {told[1:]}" if told.startswith("<") else f"p = {told}"


def specific_sentence(rows: Iterable[TableRow], confidence: float) -> str:
    """Sentences on the vectors that are specific by the declared contrast; empty if none was tested.

    They also name the vectors under which other answers of the relation rise alike, and call all other numbers
    descriptive.
    """
    tested = [row for row in rows if row["p_holm"] is not None and not pd.isna(row["p_holm"])]
    if not tested:
        return ""
    level = 1 - confidence
    specific = [row["fv"] for row in tested if is_specific(row, level)]
    others = [row["fv"] for row in tested if not is_specific(row, level)]
    told = [f"specific in {', '.join(specific)}" if specific else "specific in none"]
    told += [f"not shown to be in {', '.join(others)}"] if others and specific else []
    alike = [
        row["fv"]
        for row in tested
        if is_specific(row, level) and not (row["minus_corrupted_logit_difference_ci_low"] or 0) > 0
    ]
    rest = (
        f" In {', '.join(alike)} the logit difference minus corrupted is not specific: other answers rise alike."
        if alike
        else ""
    )
    return (
        f"The one declared contrast, log p minus corrupted, calls the vector {'; '.join(told)} (p adjusted over "
        f"relations, Holm, level {level:.2g}).{rest} All other numbers are descriptive."
    )
