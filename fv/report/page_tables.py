"""Tables of a run's page: what is shown rounded, what it is exactly, and the CSV that downloads it."""

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pandas as pd

from fv.evaluation.headline import DECLARED
from fv.evaluation.summary import records
from fv.evaluation.tables import NO_VECTOR
from fv.report.facts import LEAD_CONTRASTS, Facts
from fv.report.limits import LIMITS
from fv.report.screened import screen_table
from fv.report.words import called, number
from fv.statistics.grouped import SPREAD

_CONTRASTED = ("logprob", "logit_difference", "top1", "exact_match")
_MADE = (
    *("aie_scores", "aie_stats", "cie_scores", "cie_stats", "contrasts", "eval_trials", "fv_cosines", "held_out"),
    "headline",
    *("held_out_trials", "head_stability", "injection_cost", "transfer", "transfer_matrix", "trial_metrics"),
    "screen_scores",
)
"""Tables of the three steps: the page shows them by its own tables and figures."""
_HEADLINE = {
    "Δ logit difference": "delta_logit_difference",
    "log p minus corrupted": "minus_corrupted",
    "logit difference minus corrupted": "minus_corrupted_logit_difference",
}
"""Columns of the headline with intervals, and what the table of results calls them."""


class Cell(NamedTuple):
    """One cell.

    Attributes:
        text: what is read.
        exact: the number that the text rounds, as the run's table has it; empty where there is none.
    """

    text: str
    exact: str = ""


class PageTable(NamedTuple):
    """A table of the page.

    Attributes:
        name: of the file that it downloads as, without the suffix.
        title: what stands above it.
        note: what its columns are.
        header: names of columns.
        rows: its cells.
        csv: the same with exact numbers, as an address of the page's own.
        cut: how many rows there are in all, where the page has fewer; else 0.
    """

    name: str
    title: str
    note: str
    header: list[str]
    rows: list[list[Cell]]
    csv: str
    cut: int


def page_table(name: str, title: str, note: str, table: pd.DataFrame, most: int = LIMITS.rows) -> PageTable:
    """A DataFrame as a table of the page, cut to the first `most` rows; the run's folder has all of them."""
    kept = table.head(most)
    rows = [[_cell(value) for value in row] for row in kept.itertuples(index=False)]
    address = "data:text/csv;charset=utf-8," + quote(kept.to_csv(index=False, lineterminator="\n"))
    cut = len(table) if len(table) > len(kept) else 0
    return PageTable(name, title, note, [str(column) for column in table.columns], rows, address, cut)


def tables_of(facts: Facts, most: int = LIMITS.rows) -> list[PageTable]:
    """The page's tables: results, every condition, contrasts, transfer, cost, heads, and those of analyses.

    Args:
        facts: of the run.
        most: rows of each.
    """
    return [page_table(*each, most) for each in _tables(facts)]


def _tables(facts: Facts) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Name, title, note and rows of each table."""
    if len(facts.own):
        note = (
            "One row a relation, its own vector. Each number is of the test trials; n is how many there are. The norm "
            "is the vector's over the residual stream's."
        )
        if exact := [q_id for q_id in facts.own["eval_qid"] if facts.closing.lead(q_id) != "top1"]:
            note += f" Accuracy is exact match in {', '.join(exact)}, where first tokens collide."
        yield "results", "Results", note, _results(facts)
    if len(facts.held_out):
        rows = facts.of_own(facts.run.result.table, unpaired=True).sort_values("eval_qid", kind="stable")
        note = (
            "Every way to run a relation's test prompts, draws averaged (docs/methods.md, Conditions). fv_minus is the "
            "vector's log p minus the condition's."
        )
        yield "conditions", "Every condition", note, rows.drop(columns="fv")
    if len(facts.contrasts):
        columns = ["eval_qid", "condition", "minus", "metric", "n", "mean", "ci_low", "ci_high", *SPREAD]
        note = (
            "One condition minus another, trial by trial. The last columns: how many draws of the other there are, and "
            "how the difference spreads over them; draw_min is that from the best draw."
        )
        rows = facts.contrasts[facts.contrasts["metric"].isin(_CONTRASTED)]
        yield "contrasts", "Contrasts", note, rows[columns]
    if len(transfer := facts.table("transfer")):
        note = "Each vector on each relation's test trials, at the cell chosen for the pair."
        yield "transfer", "Transfer", note, transfer
    if len(cost := facts.of_own(facts.table("injection_cost"), unpaired=True)):
        columns = ["eval_qid", "condition", "draw", "n", "mean", "ci_low", "ci_high", "layer", "alpha", "norm"]
        note = "KL divergence of next-token probabilities on unrelated texts, in nats; n is the number of texts."
        yield "injection_cost", "Cost", note, cost[columns]
    if len(facts.heads):
        note = "The best heads of each ranking, and how often each is among the top k when trials are drawn again."
        yield "heads", "Heads", note, facts.heads[facts.heads["chosen"]].drop(columns="chosen")
    if facts.screen:
        note = (
            "How estimated and measured effects agree over the heads that were measured, and over those of them that "
            "were drawn at random; at most which share of the heads left may belong to the top k. "
            f"{facts.screen['what_the_bound_does_not_say']}"
        )
        yield "screen", "Screen", note, screen_table(facts.screen)
    others = [name for name in facts.run.tables if name not in _MADE]
    for name in others:
        yield _further(facts, name)


def _further(facts: Facts, name: str) -> tuple[str, str, str, pd.DataFrame]:
    """A table that the page knows nothing of, such as an analysis' own."""
    makers = [analysis for analysis, made in facts.run.analyses.items() if name in made.table_names]
    maker = name.rpartition("/")[0] or next(iter(makers), "")
    note = f"Made by the analysis {called(maker)}." if maker else "A further table."
    return name.replace("/", "_"), called(name), note, facts.table(name)


def _results(facts: Facts) -> pd.DataFrame:
    rows = []
    for row in records(facts.own):
        q_id = row["eval_qid"]
        few_shot = facts.measured(q_id, "few_shot", facts.closing.lead(q_id), NO_VECTOR)
        before, after = facts.closing.answered(row)
        cost, headline = facts.cost(q_id), _of_headline(facts, q_id)
        # Results of an older version have no headline, and yet the contrasts.
        others = [minus for minus in LEAD_CONTRASTS if not headline or minus != DECLARED[1]]
        rows.append(
            {
                "relation": q_id,
                "k": row["k"],
                "layer": row["layer"],
                "α": row["alpha"],
                "norm": row.get("relative_norm"),
                "accuracy without": before,
                "accuracy with vector": after,
                "accuracy with examples": few_shot["mean"] if few_shot else None,
                "Δ log p": row["mean_delta_logprob"],
                "low": row["mean_delta_logprob_ci_low"],
                "high": row["mean_delta_logprob_ci_high"],
                **headline,
                **{
                    f"minus {called(minus)}": found["mean"] if (found := facts.difference(q_id, minus)) else None
                    for minus in others
                },
                "harm rate": row["harm_rate"],
                "KL elsewhere": cost["mean"] if cost else None,
                "n": row["n_test"],
            }
        )
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def _of_headline(facts: Facts, q_id: str) -> dict[str, Any]:
    """The headline's columns that the results do not have already."""
    row = facts.headline.get(q_id)
    if row is None:
        return {}
    null = facts.null.get((row["fv"], q_id))
    found: dict[str, Any] = {}
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


def _cell(value: Any) -> Cell:
    if isinstance(value, str):
        return Cell(value)
    if value is None or pd.isna(value):
        return Cell("–")
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    return Cell(number(value), repr(value.item() if hasattr(value, "item") else value))
