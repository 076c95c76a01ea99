"""What an injection does to zero-shot answers: trial rows, their summary, and the transfer matrix.

One trial row is one (vector, trial, layer, alpha); one summary row is its mean over a relation's trials.
Metrics: spec section 2 (`mean_delta_logprob` primary, `accuracy_delta`, `mean_delta_p`).
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import pandas as pd
import torch

from fv.injection import Vector
from fv.sweep import Advance, Cell, Prompt, Sweep, ignore_progress

METRICS = ["mean_delta_logprob", "accuracy_delta", "mean_delta_p"]
CELL = ["fv", "eval_qid", "layer", "alpha"]
TRIAL_COLUMNS = [
    *("trial_id", "fv", "fv_kind", "eval_qid", "layer", "alpha"),
    *("baseline_logprob", "injected_logprob", "delta_logprob", "baseline_p", "injected_p", "delta_p"),
    *("baseline_rank", "injected_rank", "baseline_correct", "injected_correct"),
]


class EvalTrial(NamedTuple):
    """One eval trial with its zero-shot prompt."""

    trial_id: str
    q_id: str
    prompt: Prompt


def n_rows(plan: Sequence[tuple[Vector, Sequence[EvalTrial]]], cells: Sequence[Cell]) -> int:
    """How many trial rows a plan makes, for progress."""
    return sum(len(trials) for _, trials in plan) * len(cells)


def evaluate(
    sweep: Sweep,
    plan: Sequence[tuple[Vector, Sequence[EvalTrial]]],
    cells: Sequence[Cell],
    advance: Advance = ignore_progress,
) -> pd.DataFrame:
    """Inject every vector of `plan` into its trials at every cell.

    Vectors with the same trials share the prompts' prefixes and baselines.

    Args:
        sweep: the engine.
        plan: vectors with the trials they are evaluated on.
        cells: the (layer, alpha) grid.
        advance: progress callback, called with trial rows done.

    Returns:
        trial rows with `TRIAL_COLUMNS`, sorted.
    """
    tables = []
    for trials, group in groupby(plan, key=lambda item: list(item[1])):
        vectors = [vector for vector, _ in group]
        values = torch.stack([vector.values for vector in vectors])
        before, after = sweep.inject([t.prompt for t in trials], values, cells, advance)
        # The product below runs over trials, then vectors, then cells, like `after`: (trials, vectors, cells).
        index = pd.MultiIndex.from_product([range(len(trials)), range(len(vectors)), range(len(cells))]).to_frame(
            index=False
        )
        trial, vector, cell = (index[i] for i in range(3))
        table = pd.DataFrame(
            {
                "trial_id": trial.map(lambda i, trials=trials: trials[i].trial_id),
                "fv": vector.map(lambda i, vectors=vectors: vectors[i].name),
                "fv_kind": vector.map(lambda i, vectors=vectors: vectors[i].kind),
                "eval_qid": trial.map(lambda i, trials=trials: trials[i].q_id),
                "layer": cell.map(lambda i: cells[i].layer),
                "alpha": cell.map(lambda i: cells[i].alpha),
                "baseline_logprob": before.logprob.numpy()[trial],
                "injected_logprob": after.logprob.flatten().numpy(),
                "baseline_p": before.p.numpy()[trial],
                "injected_p": after.p.flatten().numpy(),
                "baseline_rank": before.rank.numpy()[trial],
                "injected_rank": after.rank.flatten().numpy(),
            }
        )
        tables.append(table)
    rows = pd.concat(tables, ignore_index=True)
    rows["delta_logprob"] = rows["injected_logprob"] - rows["baseline_logprob"]
    rows["delta_p"] = rows["injected_p"] - rows["baseline_p"]
    rows["baseline_correct"] = rows["baseline_rank"] == 0
    rows["injected_correct"] = rows["injected_rank"] == 0
    return sort_trials(rows)


def sort_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Trial rows in the one order that files use, whatever order they were computed in."""
    return rows[TRIAL_COLUMNS].sort_values([*CELL, "trial_id"], ignore_index=True)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over trials, one row a (fv, eval_qid, layer, alpha)."""
    summary = rows.groupby(CELL, sort=True).agg(
        fv_kind=("fv_kind", "first"),
        n_trials=("trial_id", "size"),
        baseline_logprob=("baseline_logprob", "mean"),
        injected_logprob=("injected_logprob", "mean"),
        mean_delta_logprob=("delta_logprob", "mean"),
        baseline_accuracy=("baseline_correct", "mean"),
        injected_accuracy=("injected_correct", "mean"),
        mean_delta_p=("delta_p", "mean"),
    )
    summary["accuracy_delta"] = summary["injected_accuracy"] - summary["baseline_accuracy"]
    return summary.reset_index()


def summary_json(rows: pd.DataFrame) -> dict[str, Any]:
    """`eval_summary.json`: long format and matrix[fv][eval_qid], the cells of each pair in order of layer and alpha.

    It depends on the trial rows only, so a gathered sweep and a single job over the same grid write the same.
    """
    summary = summarise(rows)
    matrix: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for (fv, eval_qid), cells in summary.groupby(["fv", "eval_qid"], sort=True):
        matrix.setdefault(str(fv), {})[str(eval_qid)] = records(cells[["layer", "alpha", *METRICS]])
    return {
        "schema_version": 1,
        "primary_metric": METRICS[0],
        "fvs": sorted(summary["fv"].unique()),
        "eval_qids": sorted(summary["eval_qid"].unique()),
        "layers": sorted(summary["layer"].unique().tolist()),
        "alphas": sorted(summary["alpha"].unique().tolist()),
        "rows": records(summary),
        "matrix": matrix,
    }


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON objects."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def best_cells(summary: pd.DataFrame) -> pd.DataFrame:
    """For each (fv, eval_qid) the cell with the highest `mean_delta_logprob`, ties by layer then alpha.

    The choice is made on the very trials it is reported on, so the number flatters; a reader must be told.
    """
    ranked = summary.sort_values(
        ["fv", "eval_qid", METRICS[0], "layer", "alpha"], ascending=[True, True, False, True, True]
    )
    return ranked.drop_duplicates(["fv", "eval_qid"]).reset_index(drop=True)
