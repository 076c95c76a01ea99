"""Null on the terminal: the distribution of every contrast under the null, and each vector's p."""

from fv.display import print_table, print_text
from fv.evaluation.headline import CONTRASTS, DECLARED
from fv.evaluation.summary import records
from fv.report.headline import p_shown
from fv.report.words import terminal_interval
from fv.runs.run import Run
from fv.tables import TableRow

METRICS = tuple(CONTRASTS.values())
"""Metrics that are printed; `null.csv` has all."""


def null_sentence(run: Run) -> str:
    """Sentence on how often the declared contrast excludes zero for a shuffled relation; empty without a null."""
    row = next((row for row in _null(run) if (row["condition"], row["minus"], row["metric"]) == DECLARED), None)
    if row is None or row["excludes_zero"] is None:
        return ""
    return (
        f"Null: of {row['n_draws']} shuffled relations {_share(row)} have an interval of log p minus corrupted that "
        f"excludes 0; its mean is {row['mean']:+.2f}."
    )


def print_null(run: Run) -> None:
    """Print a run's null, if it has one: contrasts in log p and logit difference, and p of each vector."""
    rows = [row for row in _null(run) if row["metric"] in METRICS]
    if not rows:
        return
    names = ("contrast", "metric", "draws", "mean", "sd", "lowest", "highest", "intervals without 0")
    cells = [
        (
            f"{row['condition']} − {row['minus']}",
            row["metric"],
            row["n_draws"],
            f"{row['mean']:+.2f}",
            f"{row['sd']:.2f}",
            *(f"{row[name]:+.2f}" for name in ("lowest", "highest")),
            _share(row),
        )
        for row in rows
    ]
    print_table("The null: contrasts of vectors whose relation's outputs are permuted", names, cells, n_text=2)
    observed = [row for row in records(run.table("null_p")) if row["condition"] == "fv" and row["metric"] in METRICS]
    own = [row for row in observed if row["minus"] == DECLARED[1]]
    cells = [
        (row["fv"], row["metric"], f"{row['mean']:+.2f}", f"{row['t']:.1f}", p_shown(row["p_greater"]), row["n_draws"])
        for row in own
    ]
    title = "Vectors beside their null, minus corrupted"
    print_table(title, ("vector", "metric", "mean", "mean / se", "p", "draws"), cells, n_text=2)
    print_text("p = (1 + draws with a mean / se at least as large) / (1 + draws); draws of all relations are pooled.")


def _null(run: Run) -> list[TableRow]:
    return records(run.table("null")) if "null" in run.tables else []


def _share(row: TableRow) -> str:
    if row["excludes_zero"] is None:
        return "–"
    ends = terminal_interval(
        100 * row["excludes_zero"], 100 * row["excludes_zero_ci_low"], 100 * row["excludes_zero_ci_high"], 0
    )
    return f"{ends.removeprefix('+')} %"
