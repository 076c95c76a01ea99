"""Trial rows: the effect of an injection on the zero-shot answer of one trial.

One trial row is one (vector, trial, layer, alpha); one summary row is the mean over a relation's trials.
Metrics: spec section 2 (`mean_delta_logprob` primary, `accuracy_delta`, `mean_delta_p`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fv.interventions.engine import Cell, Engine, TargetScores
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress
from fv.statistics.intervals import Kind
from fv.vectors.vector import Vector, norm_of

KINDS = {
    "mean_delta_logprob": Kind.mean,
    "accuracy_delta": Kind.proportion_difference,
    "mean_delta_p": Kind.mean,
}
"""{metric: the kind of its mean}."""
METRICS = list(KINDS)
CELL = ["fv", "eval_qid", "layer", "alpha"]
WHICH = ["trial_id", "fv", "fv_kind", "fv_source", "k", "norm", "eval_qid", "part", "layer", "alpha"]
"""Columns that identify a trial row; `norm` is the vector's own norm, before alpha."""
TRIAL_COLUMNS = [
    *WHICH,
    "baseline_logprob",
    "injected_logprob",
    "delta_logprob",
    "baseline_p",
    "injected_p",
    "delta_p",
    "baseline_rank",
    "injected_rank",
    "baseline_correct",
    "injected_correct",
    "baseline_tied",
    "injected_tied",
]


class EvalTrial(NamedTuple):
    """Eval trial with its zero-shot prompt and its part, `dev` or `test`."""

    trial_id: str
    q_id: str
    part: str
    prompt: Prompt


def inject_vectors(
    engine: Engine,
    vectors: Sequence[Vector],
    prompts: Sequence[Prompt],
    cells: Sequence[Cell],
    residual_norm: Tensor | None,
    advance: Advance = ignore_progress,
) -> tuple[TargetScores, TargetScores]:
    """Score prompts without a vector, (n_prompts,), and with each vector, (n_prompts, n_vectors, n_cells).

    A prompt's prefix and baseline are run once. No bit of a vector's scores depends on the other vectors or cells.

    Args:
        engine: the engine.
        vectors: the vectors.
        prompts: zero-shot prompts.
        cells: the grid's (layer, alpha) cells.
        residual_norm: unit of alpha at each layer, (n_layers,); None if alpha itself is the factor on the vector.
        advance: progress callback, called with the number of trial rows done.
    """
    values = torch.stack([vector.values for vector in vectors]).expand(len(prompts), -1, -1)
    if residual_norm is not None:
        values = normalize(values, dim=-1)
        cells = [Cell(cell.layer, cell.alpha * float(residual_norm[cell.layer])) for cell in cells]
    return engine.inject(prompts, values, cells, advance)


def trial_rows(
    vector: Vector, trials: Sequence[EvalTrial], cells: Sequence[Cell], before: TargetScores, after: TargetScores
) -> pd.DataFrame:
    """Build one vector's trial rows from the scores without it, (n_trials,), and with it, (n_trials, n_cells)."""
    own = (vector.name, vector.kind, vector.source, vector.k, norm_of(vector.values))
    keys = [(trial.trial_id, *own, trial.q_id, trial.part, *cell) for trial in trials for cell in cells]
    rows = pd.DataFrame(keys, columns=WHICH).astype({"k": "Int64"})
    for name, scores, times in (("baseline", before, len(cells)), ("injected", after, 1)):
        for part in ("logprob", "p", "rank", "correct", "tied"):
            array: Tensor = getattr(scores, part)
            rows[f"{name}_{part}"] = array.flatten().repeat_interleave(times).numpy()
    rows["delta_logprob"] = rows["injected_logprob"] - rows["baseline_logprob"]
    rows["delta_p"] = rows["injected_p"] - rows["baseline_p"]
    return rows


def sort_trials(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort trial rows into the order that files use."""
    return rows[TRIAL_COLUMNS].astype({"k": "Int64"}).sort_values([*CELL, "trial_id"], ignore_index=True)
