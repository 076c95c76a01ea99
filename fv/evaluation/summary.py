"""Summary of trial rows: means with intervals, the matrix, the chosen cells (spec section 2)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from fv.config import StatsConfig
from fv.evaluation.selection import TEST, choose_cells, is_chosen
from fv.evaluation.tables import ALL
from fv.evaluation.trial_rows import CELL, KINDS, METRICS, sort_trials
from fv.files import JsonObject
from fv.statistics.grouped import grouped_means

HELD_OUT = {"mean_delta_logprob": "delta_logprob", "accuracy_delta": "delta_top1", "mean_delta_p": "delta_p"}
"""{metric of a grid: the same metric's name in tables of conditions}."""


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over trials, one row per (fv, eval_qid, layer, alpha)."""
    # The order of a sum changes its last bit: always sum in the order of the files.
    summary = (
        sort_trials(rows)
        .groupby(CELL, sort=True)
        .agg(
            fv_kind=("fv_kind", "first"),
            fv_source=("fv_source", "first"),
            k=("k", "first"),
            norm=("norm", "first"),
            n_trials=("trial_id", "size"),
            baseline_logprob=("baseline_logprob", "mean"),
            injected_logprob=("injected_logprob", "mean"),
            mean_delta_logprob=("delta_logprob", "mean"),
            baseline_accuracy=("baseline_correct", "mean"),
            injected_accuracy=("injected_correct", "mean"),
            mean_delta_p=("delta_p", "mean"),
        )
    )
    summary["accuracy_delta"] = summary["injected_accuracy"] - summary["baseline_accuracy"]
    summary["harm_rate"] = rows.assign(worse=rows["delta_logprob"] < 0).groupby(CELL)["worse"].mean()
    return summary.reset_index()


def with_intervals(summary: pd.DataFrame, rows: pd.DataFrame, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Add to summary rows `<metric>_se`, `_ci_low` and `_ci_high` of each of `METRICS`, over the rows' trials."""
    values = sort_trials(rows).astype({"baseline_correct": float, "injected_correct": float})
    values["accuracy_delta"] = values["injected_correct"] - values["baseline_correct"]
    values = values.rename(columns={"delta_logprob": "mean_delta_logprob", "delta_p": "mean_delta_p"})
    estimates = grouped_means(values, CELL, KINDS, "trial_id", stats, seed)
    wide = estimates.pivot(index=CELL, columns="metric", values=["se", "ci_low", "ci_high"])
    wide.columns = pd.Index([f"{column[1]}_{column[0]}" for column in wide.columns])
    ends = [f"{metric}_{end}" for metric in METRICS for end in ("se", "ci_low", "ci_high")]
    return summary.merge(wide[ends].reset_index(), on=CELL)


def with_relative_norms(table: pd.DataFrame, residual_norms: Mapping[str, Tensor]) -> pd.DataFrame:
    """Add to cells `relative_norm`: the vector's norm, before alpha, divided by the residual stream's mean norm.

    Args:
        table: rows with `eval_qid`, `layer` and `norm`.
        residual_norms: {q_id: mean norm after each block at the last token of its zero-shot fit prompts, (n_layers,)};
            a relation that is missing here has no relative norms.
    """
    known = {q_id: norm.tolist() for q_id, norm in residual_norms.items()}
    cells = zip(table["eval_qid"], table["layer"], table["norm"], strict=True)
    return table.assign(relative_norm=[norm / known[q][layer] if q in known else np.nan for q, layer, norm in cells])


def summary_json(rows: pd.DataFrame, residual_norms: Mapping[str, Tensor], stats: StatsConfig, seed: int) -> JsonObject:
    """Content of `eval_summary.json`: every cell, matrix[fv][eval_qid] with its cells sorted, and `chosen`.

    `rows` cover all eval trials. `chosen` names the cell that the dev trials choose for each (fv, eval_qid), with its
    means over the test trials. Only trial rows and norms matter, so a gathered sweep and a single job over the same
    grid give the same summary.
    """
    summary = with_relative_norms(with_intervals(summarise(rows), rows, stats, seed), residual_norms)
    matrix: dict[str, dict[str, list[JsonObject]]] = {}
    for (fv, eval_qid), cells in summary.groupby(["fv", "eval_qid"], sort=True):
        matrix.setdefault(str(fv), {})[str(eval_qid)] = records(cells[["layer", "alpha", *METRICS]])
    return {
        "schema_version": 1,
        "primary_metric": "mean_delta_logprob",
        "confidence": stats.confidence,
        "fvs": sorted(summary["fv"].unique()),
        "eval_qids": sorted(summary["eval_qid"].unique()),
        "layers": sorted(summary["layer"].unique().tolist()),
        "alphas": sorted(summary["alpha"].unique().tolist()),
        "chosen": records(chosen_cells(rows, residual_norms, stats, seed)),
        "rows": records(summary),
        "matrix": matrix,
    }


def chosen_cells(
    rows: pd.DataFrame, residual_norms: Mapping[str, Tensor], stats: StatsConfig, seed: int
) -> pd.DataFrame:
    """Chosen cell of each (fv, eval_qid) (`choose_cells`), with its summary over the test trials."""
    chosen = choose_cells(rows)
    test = rows[(rows["part"] == TEST) & is_chosen(rows, chosen)]
    if test.empty:
        return chosen
    summary = with_intervals(summarise(test), test, stats, seed).drop(columns=["n_trials", "fv_source", "k"])
    return with_relative_norms(chosen.merge(summary, on=CELL), residual_norms)


def with_held_out_intervals(chosen: pd.DataFrame, means: pd.DataFrame) -> pd.DataFrame:
    """Give chosen cells the intervals of the conditions on test trials, which include the spread of refits.

    Args:
        chosen: `chosen_cells`.
        means: `fv.evaluation.tables.means_table`.
    """
    own = means[(means["condition"] == "fv") & (means["subset"] == ALL)].set_index(["fv", "eval_qid", "metric"])
    found = chosen.copy()
    for metric, name in HELD_OUT.items():
        keys = [(fv, q_id, name) for fv, q_id in chosen[["fv", "eval_qid"]].itertuples(index=False)]
        for column in ("se", "ci_low", "ci_high"):
            found[f"{metric}_{column}"] = own[column].reindex(keys).to_numpy()
    return found


def records(table: pd.DataFrame) -> list[JsonObject]:
    """Convert a table's rows to JSON objects, missing values to null."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]
