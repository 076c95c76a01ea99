"""Trial rows: the effect of an injection on the zero-shot answer of one trial.

One trial row is one (vector, trial, layer, alpha); one summary row is the mean over a relation's trials.
Metrics: spec section 2 (`mean_delta_logprob` primary, `accuracy_delta`, `mean_delta_p`).
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from fv.interventions.engine import Cell, Engine, TargetScores
from fv.models.prompt import Prompt
from fv.progress import Advance, ignore_progress
from fv.statistics.intervals import Kind
from fv.vectors.vector import Vector

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


KEPT_BYTES = 2**30
"""Memory for keeping prompts between the layers of vectors that have one vector per layer."""


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
    if residual_norm is not None:
        cells = [Cell(cell.layer, cell.alpha * float(residual_norm[cell.layer])) for cell in cells]
    with engine.keeping(KEPT_BYTES) if any(vector.is_layered for vector in vectors) else nullcontext():
        before, parts = None, list[tuple[list[int], list[int], TargetScores]]()
        for rows, columns, values in _groups(vectors, cells):
            here = [cells[column] for column in columns]
            each = values.expand(len(prompts), -1, -1)  # (n_prompts, n_vectors, d_model)
            each = each if residual_norm is None else normalize(each, dim=-1)
            unedited, scores = engine.inject(prompts, each, here, advance)
            before = unedited if before is None else before
            parts.append((rows, columns, scores))
    assert before is not None
    return before, _joined(parts, (len(prompts), len(vectors), len(cells)))


def _groups(vectors: Sequence[Vector], cells: Sequence[Cell]) -> Iterator[tuple[list[int], list[int], Tensor]]:
    """Divide vectors and cells into groups that one injection takes: the vectors of all layers, then each layer's.

    Yields:
        places of the vectors, places of the cells, and the vectors, (n_vectors, d_model).
    """
    plain = [place for place, vector in enumerate(vectors) if not vector.is_layered]
    if plain:
        yield plain, [*range(len(cells))], torch.stack([vectors[place].values for place in plain])
    layered = [place for place, vector in enumerate(vectors) if vector.is_layered]
    for layer in sorted({cell.layer for cell in cells}) if layered else ():
        columns = [column for column, cell in enumerate(cells) if cell.layer == layer]
        yield layered, columns, torch.stack([vectors[place].values_at(layer) for place in layered])


def _joined(parts: Sequence[tuple[list[int], list[int], TargetScores]], shape: tuple[int, int, int]) -> TargetScores:
    """Put the scores of groups, (n_prompts, n_vectors, n_cells) of each, into their places in `shape`."""
    if len(parts) == 1:
        return parts[0][2]
    found = [part.new_empty(shape) for part in parts[0][2].parts]
    for rows, columns, scores in parts:
        for whole, part in zip(found, scores.parts, strict=True):
            whole[:, torch.tensor(rows)[:, None], torch.tensor(columns)] = part
    return TargetScores(*found)


def trial_rows(
    vector: Vector, trials: Sequence[EvalTrial], cells: Sequence[Cell], before: TargetScores, after: TargetScores
) -> pd.DataFrame:
    """Build one vector's trial rows from the scores without it, (n_trials,), and with it, (n_trials, n_cells)."""
    own = (vector.name, vector.kind, vector.source, vector.k)
    norms = {layer: vector.norm_at(layer) for layer in {cell.layer for cell in cells}}
    keys = [
        (trial.trial_id, *own, norms[cell.layer], trial.q_id, trial.part, *cell) for trial in trials for cell in cells
    ]
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
