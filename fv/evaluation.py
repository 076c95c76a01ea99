"""What an injection does to zero-shot answers: trial rows, their summary, and the transfer matrix.

One trial row is one (vector, trial, layer, alpha); one summary row is its mean over a relation's trials.
Metrics: spec section 2 (`mean_delta_logprob` primary, `accuracy_delta`, `mean_delta_p`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fv.config import StatsConfig
from fv.injection import Vector, norm_of
from fv.intervals import Kind
from fv.selection import TEST, choose_cells, is_chosen
from fv.stats import grouped_means
from fv.sweep import Advance, Cell, Prompt, Sweep, TargetScores, ignore_progress

METRICS = ["mean_delta_logprob", "accuracy_delta", "mean_delta_p"]
KINDS = dict(zip(METRICS, (Kind.mean, Kind.proportion_difference, Kind.mean), strict=True))
CELL = ["fv", "eval_qid", "layer", "alpha"]
WHICH = ["trial_id", "fv", "fv_kind", "fv_source", "k", "norm", "eval_qid", "part", "layer", "alpha"]
"""What names a trial row; `norm` is the vector's own, before alpha."""
TRIAL_COLUMNS = [
    *WHICH,
    *("baseline_logprob", "injected_logprob", "delta_logprob", "baseline_p", "injected_p", "delta_p"),
    *("baseline_rank", "injected_rank", "baseline_correct", "injected_correct"),
]


class EvalTrial(NamedTuple):
    """One eval trial with its zero-shot prompt, and the part it belongs to: `dev` or `test`."""

    trial_id: str
    q_id: str
    part: str
    prompt: Prompt


def evaluate(
    sweep: Sweep,
    vectors: Sequence[Vector],
    trials: Sequence[EvalTrial],
    cells: Sequence[Cell],
    residual_norm: Tensor | None = None,
    advance: Advance = ignore_progress,
) -> pd.DataFrame:
    """Inject every vector into every trial at every cell.

    A trial's prefix and baseline are run once. No bit of a vector's rows depends on the other vectors or cells.

    Args:
        sweep: the engine.
        vectors: the vectors.
        trials: eval trials with their zero-shot prompts.
        cells: the (layer, alpha) grid.
        residual_norm: what alpha is a multiple of at each layer, (n_layers,); None where it is a factor on the vector.
        advance: progress callback, called with trial rows done.

    Returns:
        trial rows with `TRIAL_COLUMNS`, sorted.
    """
    values = torch.stack([vector.values for vector in vectors]).expand(len(trials), -1, -1)
    prompts = [trial.prompt for trial in trials]
    before, after = inject_at(sweep, prompts, values, cells, residual_norm, advance, apart=True)
    tables = [trial_rows(vector, trials, cells, before, after[:, i]) for i, vector in enumerate(vectors)]
    return sort_trials(pd.concat(tables, ignore_index=True))


def trial_rows(
    vector: Vector, trials: Sequence[EvalTrial], cells: Sequence[Cell], before: TargetScores, after: TargetScores
) -> pd.DataFrame:
    """One vector's trial rows from the scores without it, (n_trials,), and with it, (n_trials, n_cells)."""
    own = (vector.name, vector.kind, vector.source, vector.k, norm_of(vector.values))
    keys = [(trial.trial_id, *own, trial.q_id, trial.part, *cell) for trial in trials for cell in cells]
    rows = pd.DataFrame(keys, columns=WHICH).astype({"k": "Int64"})
    for name, scores, times in (("baseline", before, len(cells)), ("injected", after, 1)):
        for part, array in (("logprob", scores.logprob), ("p", scores.p), ("rank", scores.rank)):
            rows[f"{name}_{part}"] = array.flatten().repeat_interleave(times).numpy()
    rows["delta_logprob"] = rows["injected_logprob"] - rows["baseline_logprob"]
    rows["delta_p"] = rows["injected_p"] - rows["baseline_p"]
    rows["baseline_correct"] = rows["baseline_rank"] == 0
    rows["injected_correct"] = rows["injected_rank"] == 0
    return rows


def inject_at(
    sweep: Sweep,
    prompts: Sequence[Prompt],
    vectors: Tensor,
    cells: Sequence[Cell],
    residual_norm: Tensor | None,
    advance: Advance = ignore_progress,
    apart: bool = False,
) -> tuple[TargetScores, TargetScores]:
    """`Sweep.inject`, with alpha as a multiple of the residual stream's norm at each layer, (n_layers,), if given."""
    if residual_norm is not None:
        vectors = normalize(vectors, dim=-1)
        cells = [Cell(cell.layer, cell.alpha * float(residual_norm[cell.layer])) for cell in cells]
    return sweep.inject(prompts, vectors, cells, advance, apart)


def sort_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Trial rows in the one order that files use, whatever order they were computed in."""
    return rows[TRIAL_COLUMNS].astype({"k": "Int64"}).sort_values([*CELL, "trial_id"], ignore_index=True)


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over trials, one row a (fv, eval_qid, layer, alpha)."""
    # The order of a sum decides its last bit: always that of the files.
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
    """Summary rows with `<metric>_se`, `_ci_low` and `_ci_high` of each of `METRICS`, over the rows' trials."""
    values = sort_trials(rows).astype({"baseline_correct": float, "injected_correct": float})
    values["accuracy_delta"] = values["injected_correct"] - values["baseline_correct"]
    values = values.rename(columns={"delta_logprob": METRICS[0], "delta_p": METRICS[2]})
    estimates = grouped_means(values, CELL, KINDS, "trial_id", stats, seed)
    wide = estimates.pivot(index=CELL, columns="metric", values=["se", "ci_low", "ci_high"])
    wide.columns = pd.Index([f"{column[1]}_{column[0]}" for column in wide.columns])
    ends = [f"{metric}_{end}" for metric in METRICS for end in ("se", "ci_low", "ci_high")]
    return summary.merge(wide[ends].reset_index(), on=CELL)


def with_relative_norms(table: pd.DataFrame, residual_norms: Mapping[str, Tensor | None]) -> pd.DataFrame:
    """A table of cells with `relative_norm`: the vector's norm, before alpha, over the residual stream's mean norm.

    Args:
        table: rows with `eval_qid`, `layer` and `norm`.
        residual_norms: {q_id: mean norm behind each block at the last token of its zero-shot fit prompts, (n_layers,)};
            None where it was not measured.
    """
    known = {q_id: norm.tolist() for q_id, norm in residual_norms.items() if norm is not None}
    cells = zip(table["eval_qid"], table["layer"], table["norm"], strict=True)
    return table.assign(relative_norm=[norm / known[q][layer] if q in known else np.nan for q, layer, norm in cells])


def summary_json(
    rows: pd.DataFrame, residual_norms: Mapping[str, Tensor | None], stats: StatsConfig, seed: int
) -> dict[str, Any]:
    """`eval_summary.json`: every cell, matrix[fv][eval_qid] with its cells in order of layer and alpha, and `chosen`.

    `rows` are over all eval trials. `chosen` names the cell that the dev trials choose for each (fv, eval_qid), with
    its means over the test trials. It depends on the trial rows and norms only, so a gathered sweep and a single job
    over the same grid write the same.
    """
    summary = with_relative_norms(with_intervals(summarise(rows), rows, stats, seed), residual_norms)
    matrix: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for (fv, eval_qid), cells in summary.groupby(["fv", "eval_qid"], sort=True):
        matrix.setdefault(str(fv), {})[str(eval_qid)] = records(cells[["layer", "alpha", *METRICS]])
    return {
        "schema_version": 1,
        "primary_metric": METRICS[0],
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
    rows: pd.DataFrame, residual_norms: Mapping[str, Tensor | None], stats: StatsConfig, seed: int
) -> pd.DataFrame:
    """The chosen cell of each (fv, eval_qid), `fv.selection.choose_cells`, with its summary over the test trials."""
    chosen = choose_cells(rows)
    test = rows[(rows["part"] == TEST) & is_chosen(rows, chosen)]
    if test.empty:
        return chosen
    summary = with_intervals(summarise(test), test, stats, seed).drop(columns=["n_trials", "fv_source", "k"])
    return with_relative_norms(chosen.merge(summary, on=CELL), residual_norms)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table's rows as JSON objects; null where there is no value."""
    return [
        {str(key): None if pd.isna(value) else value for key, value in row.items()} for row in table.to_dict("records")
    ]
