"""Closing table of runs that were gathered over their seeds."""

from pathlib import Path

import pandas as pd

from fv.display import print_table, print_text
from fv.evaluation.headline import DECLARED
from fv.evaluation.summary import records
from fv.evaluation.tables import ALL, NO_VECTOR
from fv.report.words import terminal_interval
from fv.runs.outputs import verify_outputs
from fv.runs.records import SeedsRecord, read_record
from fv.runs.table_files import read_table
from fv.tables import TableRow

OVER_SEEDS = "over_seeds.json"
"""Name of the file that marks a folder of tables over seeds."""


def print_over_seeds(folder: Path) -> None:
    """Print each vector's effect on each relation, as mean and interval over seeds.

    Args:
        folder: the folder of the gathered tables.
    """
    gathered = read_record(folder / OVER_SEEDS, SeedsRecord)
    verify_outputs(folder, gathered.outputs, "The gathering")
    means, contrasts = (_of_vectors(read_table(folder / f"{name}.csv")) for name in ("held_out", "contrasts"))
    corrupted = contrasts[contrasts["minus"] == DECLARED[1]]
    minus = {(row["fv"], row["eval_qid"], row["metric"]): _interval(row) for row in records(corrupted)}
    accuracy = {(row["fv"], row["eval_qid"]): row["mean"] for row in records(means[means["metric"] == "top1"])}
    rows = []
    for row in records(means[means["metric"] == "delta_logprob"]):
        fv, q_id = row["fv"], row["eval_qid"]
        name = fv if fv == q_id else f"{fv} → {q_id}"
        beyond = (minus.get((fv, q_id, metric), "–") for metric in ("logprob", "logit_difference"))
        rows.append((name, f"{accuracy[fv, q_id]:.2f}", _interval(row), *beyond, row["n_seeds"]))
    title = f"Means over the seeds {', '.join(map(str, gathered.seeds))}, with intervals over them"
    names = ("vector", "accuracy", "Δ log p", "minus corrupted", "its logit difference", "seeds")
    print_table(title, names, rows)
    for line in gathered.warnings:
        print_text(f"Mind: {line}")
    print_text(f"Tables: {folder}", in_one_piece=True)


def _interval(row: TableRow) -> str:
    return terminal_interval(row["mean"], row["ci_low"], row["ci_high"])


def _of_vectors(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of injected vectors on all test trials."""
    return table[(table["condition"] == "fv") & (table["subset"] == ALL) & (table["fv"] != NO_VECTOR)]
