"""What an injection does to zero-shot answers: trial rows, their summary, and the transfer matrix.

One trial row is one (vector, trial, layer, alpha); one summary row is its mean over a relation's trials.
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
"""The metrics, and what kind of mean each is."""
METRICS = list(KINDS)
CELL = ["fv", "eval_qid", "layer", "alpha"]
WHICH = ["trial_id", "fv", "fv_kind", "fv_source", "k", "norm", "eval_qid", "part", "layer", "alpha"]
"""What names a trial row; `norm` is the vector's own, before alpha."""
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
    *(TIED := ["baseline_tied", "injected_tied"]),
]


class EvalTrial(NamedTuple):
    """One eval trial with its zero-shot prompt, and the part it belongs to: `dev` or `test`."""

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
    """Scores without, (n_prompts,), and with each vector, (n_prompts, n_vectors, n_cells).

    A prompt's prefix and baseline are run once. No bit of a vector's scores depends on the other vectors or cells.

    Args:
        engine: the engine.
        vectors: the vectors.
        prompts: zero-shot prompts.
        cells: the (layer, alpha) grid.
        residual_norm: what alpha is a multiple of at each layer, (n_layers,); None where it is a factor on the vector.
        advance: progress callback, called with trial rows done.
    """
    values = torch.stack([vector.values for vector in vectors]).expand(len(prompts), -1, -1)
    if residual_norm is not None:
        values = normalize(values, dim=-1)
        cells = [Cell(cell.layer, cell.alpha * float(residual_norm[cell.layer])) for cell in cells]
    return engine.inject(prompts, values, cells, advance)


def trial_rows(
    vector: Vector, trials: Sequence[EvalTrial], cells: Sequence[Cell], before: TargetScores, after: TargetScores
) -> pd.DataFrame:
    """One vector's trial rows from the scores without it, (n_trials,), and with it, (n_trials, n_cells)."""
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
    """Trial rows in the one order that files use, whatever order they were computed in."""
    there = [name for name in TRIAL_COLUMNS if name in rows or name not in TIED]  # an older version told no ties
    return rows[there].astype({"k": "Int64"}).sort_values([*CELL, "trial_id"], ignore_index=True)
