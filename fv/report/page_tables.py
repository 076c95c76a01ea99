"""Tables of a run's page: rounded numbers to read, the exact numbers for sorting, and a CSV to download."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from fv.evaluation.headline import DECLARED
from fv.evaluation.summary import records
from fv.evaluation.tables import NO_VECTOR
from fv.evaluation.words import lead_contrasts
from fv.report.limits import LIMITS
from fv.report.results import RunResults
from fv.report.screen import screen_table
from fv.report.words import called, number
from fv.statistics.grouped import SPREAD
from fv.tables import TableRow

_CONTRASTED = ("logprob", "logit_difference", "top1", "exact_match")
_MADE = (
    *("aie_scores", "aie_stats", "cie_scores", "cie_stats", "contrasts", "eval_trials", "fv_cosines", "held_out"),
    "headline",
    *("held_out_trials", "head_stability", "injection_cost", "transfer", "transfer_matrix", "trial_metrics"),
    "screen_scores",
)
"""Tables of the three steps; the page shows their contents in its own tables and figures."""
_HEADLINE = {
    "Δ logit difference": "delta_logit_difference",
    "log p minus corrupted": "minus_corrupted",
    "logit difference minus corrupted": "minus_corrupted_logit_difference",
}
"""{column of the table of results: the column of the headline}, for columns with intervals."""


class TableCell(NamedTuple):
    """Cell of a table.

    Attributes:
        text: the shown text.
        exact: the exact number behind a rounded text, as in the run's table; empty if it is not a number.
    """

    text: str
    exact: str = ""


class PageTable(NamedTuple):
    """Table of the page.

    Attributes:
        name: name of its CSV file, without the suffix.
        title: heading above the table.
        note: explanation of its columns.
        header: names of columns.
        rows: its cells.
        csv: the table as CSV with exact numbers, as a data address within the page.
        cut: total number of rows if the page shows fewer; else 0.
    """

    name: str
    title: str
    note: str
    header: list[str]
    rows: list[list[TableCell]]
    csv: str
    cut: int


def page_table(name: str, title: str, note: str, table: pd.DataFrame, most: int = LIMITS.rows) -> PageTable:
    """Convert a DataFrame to a table of the page, cut to the first `most` rows; the run's folder has all of them."""
    kept = table.head(most)
    rows = [[_cell(value) for value in row] for row in kept.itertuples(index=False)]
    address = "data:text/csv;charset=utf-8," + quote(kept.to_csv(index=False, lineterminator="\n"))
    cut = len(table) if len(table) > len(kept) else 0
    return PageTable(name, title, note, [str(column) for column in table.columns], rows, address, cut)


def tables_of(results: RunResults, most: int = LIMITS.rows) -> list[PageTable]:
    """Build the page's tables: results, conditions, contrasts, transfer, cost, heads, and the tables of analyses.

    Args:
        results: the run's results.
        most: largest number of rows of a table.
    """
    return [page_table(*each, most) for each in _tables(results)]


def _tables(results: RunResults) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Yield each table's name, title, note and rows."""
    if len(results.own):
        note = (
            "One row per relation, for its own vector. All numbers are from the n test trials. The norm is the "
            "vector's norm divided by the residual stream's."
        )
        if exact := [q_id for q_id in results.own["eval_qid"] if results.closing.lead(q_id) != "top1"]:
            note += f" Accuracy is exact match in {', '.join(exact)}, since first tokens collide there."
        yield "results", "Results", note, _results(results)
    if len(results.held_out):
        rows = results.of_own(results.run.result.table, unpaired=True).sort_values("eval_qid", kind="stable")
        note = (
            "Every way to run a relation's test prompts, averaged over draws (docs/methods.md, Conditions). fv_minus "
            "is the vector's log p minus the condition's."
        )
        yield "conditions", "Every condition", note, rows.drop(columns="fv")
    if len(results.contrasts):
        columns = ["eval_qid", "condition", "minus", "metric", "n", "mean", "ci_low", "ci_high", *SPREAD]
        note = (
            "One condition minus another, trial by trial. The last columns give the number of draws of the other "
            "condition, and the spread of the difference over them; draw_min is the difference from the best draw."
        )
        rows = results.contrasts[results.contrasts["metric"].isin(_CONTRASTED)]
        yield "contrasts", "Contrasts", note, rows[columns]
    if len(transfer := results.table("transfer")):
        note = "Each vector on each relation's test trials, at the cell chosen for the pair."
        yield "transfer", "Transfer", note, transfer
    if len(cost := results.of_own(results.table("injection_cost"), unpaired=True)):
        columns = ["eval_qid", "condition", "draw", "n", "mean", "ci_low", "ci_high", "layer", "alpha", "norm"]
        note = "KL divergence of next-token probabilities on unrelated texts, in nats; n is the number of texts."
        yield "injection_cost", "Cost", note, cost[columns]
    if len(results.heads):
        note = "The best heads of each ranking, and how often each is among the top k when trials are resampled."
        yield "heads", "Heads", note, results.heads[results.heads["chosen"]].drop(columns="chosen")
    if results.screen:
        note = (
            "Agreement of estimated and measured effects over all measured heads, and over the randomly drawn ones; "
            "and an upper bound on the share of the other heads that belong to the top k. "
            f"{results.screen['what_the_bound_does_not_say']}"
        )
        yield "screen", "Screen", note, screen_table(results.screen)
    others = [name for name in results.run.tables if name not in _MADE]
    for name in others:
        yield _further(results, name)


def _further(results: RunResults, name: str) -> tuple[str, str, str, pd.DataFrame]:
    """Name, title, note and rows of any other table of the run, such as an analysis' own."""
    makers = [analysis for analysis, made in results.run.analyses.items() if name in made.table_names]
    maker = name.rpartition("/")[0] or next(iter(makers), "")
    note = f"Made by the analysis {called(maker)}." if maker else "A further table."
    return name.replace("/", "_"), called(name), note, results.table(name)


def _results(results: RunResults) -> pd.DataFrame:
    rows = []
    for row in records(results.own):
        q_id = row["eval_qid"]
        few_shot = results.measured(q_id, "few_shot", results.closing.lead(q_id), NO_VECTOR)
        before, after = results.closing.answered(row)
        cost, headline = results.cost(q_id), _of_headline(results, q_id)
        others = [minus for minus in lead_contrasts() if minus != DECLARED[1]]  # the headline has that one
        rows.append(
            {
                "relation": q_id,
                "k": row["k"],
                "layer": row["layer"],
                "α": row["alpha"],
                "norm": row["relative_norm"],
                "accuracy without": before,
                "accuracy with vector": after,
                "accuracy with examples": few_shot.mean if few_shot else None,
                "Δ log p": row["mean_delta_logprob"],
                "low": row["mean_delta_logprob_ci_low"],
                "high": row["mean_delta_logprob_ci_high"],
                **headline,
                **{
                    f"minus {called(minus)}": found.mean if (found := results.difference(q_id, minus)) else None
                    for minus in others
                },
                "harm rate": row["harm_rate"],
                "KL elsewhere": cost.mean if cost else None,
                "n": row["n_test"],
            }
        )
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def _of_headline(results: RunResults, q_id: str) -> TableRow:
    """Columns of the headline that the results lack."""
    row = results.headline.get(q_id)
    if row is None:
        return {}
    null = results.null.get((row["fv"], q_id))
    found: TableRow = {}
    for name, column in _HEADLINE.items():
        found[name] = row[column]
        found |= {f"{name}, {end}": row[f"{column}_ci_{end}"] for end in ("low", "high")}
    found |= {"p (Holm)": row["p_holm"], "null p": null[0] if null else None, "null draws": null[1] if null else None}
    found |= {
        "p of the answer": row["p"],
        "rank of the answer": row["rank"],
        "of few-shot gain": row["share_of_few_shot"],
    }
    return found | {
        "constant answer": row["constant"],
        "repeat query": row["repeat"],
        "new answers": row["n_answer_new"],
    }


def _cell(value: Any) -> TableCell:
    if isinstance(value, str):
        return TableCell(value)
    if value is None or pd.isna(value):
        return TableCell("–")
    if isinstance(value, bool):
        return TableCell("yes" if value else "no")
    return TableCell(number(value), repr(value.item() if hasattr(value, "item") else value))
