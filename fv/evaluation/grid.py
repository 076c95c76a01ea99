"""Grid: vectors at every (layer, alpha) on eval trials.

A unit is one vector on one relation's trials. Missing units of a relation are computed together, but no bit of one
depends on another (argument `apart` of `fv.interventions.engine.Engine.inject`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fv.data.prompt_kinds import ZERO_SHOT
from fv.data.prompts import prompt_of
from fv.data.snapshot import Snapshot
from fv.data.trial import Trial
from fv.evaluation.selection import TEST, parts_of
from fv.evaluation.trial_rows import EvalTrial, inject_vectors, sort_trials, trial_rows
from fv.interventions.engine import SCORED, Cell, Engine, TargetScores
from fv.models.language_model import LanguageModel
from fv.progress import Advance
from fv.vectors.vector import Vector
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName, digest_of_tensor

VECTORS_AT_ONCE = 8
"""Number of a relation's vectors that a worker injects together, enough to fill its passes."""
Scopes = Sequence[tuple[Vector, Sequence[str]]]
"""Vectors, each with the relations that it is evaluated on."""


def trials_of(
    lm: LanguageModel, snapshot: Snapshot, qids: Sequence[str], n_eval: int | None, parts: Mapping[str, str]
) -> dict[str, list[EvalTrial]]:
    """{relation: its first `n_eval` eval trials with their zero-shot prompts}.

    Args:
        lm: the model, for its tokenizer.
        snapshot: the trials.
        qids: the relations.
        n_eval: number of eval trials per relation; None for all.
        parts: {trial_id: `dev` or `test`}.
    """
    return {
        q_id: [
            EvalTrial(t.trial_id, q_id, parts[t.trial_id], prompt_of(lm, snapshot, t, ZERO_SHOT))
            for t in eval_trials(snapshot, q_id, n_eval)
        ]
        for q_id in qids
    }


@dataclass(frozen=True)
class Grid:
    """Vectors, trials and cells of a grid.

    Attributes:
        scopes: vectors with their relations.
        trials: {relation: its eval trials}, from `trials_of`.
        cells: the grid's (layer, alpha) cells.
        norms: {q_id: unit of alpha at each layer, (n_layers,)}; None if alpha itself is the factor on the vector.
    """

    scopes: Scopes
    trials: dict[str, list[EvalTrial]]
    cells: Sequence[Cell]
    norms: dict[str, Tensor] | None = None

    def vectors(self, q_id: str) -> list[Vector]:
        """Vectors that are evaluated on a relation."""
        return [vector for vector, on in self.scopes if q_id in on]


def grid_flow(engine: Engine, grid: Grid, known: pd.DataFrame | None = None) -> Flow[pd.DataFrame]:
    """Inject vectors into the eval trials of their relations.

    Args:
        engine: the engine.
        grid: the vectors, trials and cells.
        known: trial rows of these vectors and trials at some of the cells, which are not computed again.

    Returns:
        trial rows (`fv.evaluation.trial_rows`).
    """
    tables, cells = [], list(grid.cells)
    if known is not None:
        there = set(known[["layer", "alpha"]].itertuples(index=False, name=None))
        cells = [cell for cell in cells if tuple(cell) not in there]
        parts = {trial.trial_id: trial.part for trials in grid.trials.values() for trial in trials}
        tables.append(known.assign(part=known["trial_id"].map(parts)))
    jobs = {q_id: _job(engine, grid, q_id, cells) for q_id in qids_of(grid.scopes)}
    found = yield Stage("grid", [*jobs.values()])
    for q_id, own in zip(jobs, found, strict=True):
        for vector, arrays in zip(grid.vectors(q_id), own, strict=True):
            scores = scores_of_arrays(arrays)
            tables.append(trial_rows(vector, grid.trials[q_id], cells, scores["before"], scores["after"]))
    return sort_trials(pd.concat(tables, ignore_index=True))


def _job(engine: Engine, grid: Grid, q_id: str, cells: Sequence[Cell]) -> Job:
    """Job of a relation's vectors: all that are still to be computed share the passes of its prompts."""
    vectors, trials = grid.vectors(q_id), grid.trials[q_id]
    prompts = [trial.prompt for trial in trials]
    norm = grid.norms[q_id] if grid.norms else None
    common = [
        [[p.token_ids, p.target] for p in prompts],
        [*map(list, cells)],
        None if norm is None else norm.tolist(),
    ]

    def compute(due: Sequence[int], advance: Advance) -> Iterator[Arrays]:
        before, after = inject_vectors(engine, [vectors[place] for place in due], prompts, cells, norm, advance)
        for column in range(len(due)):
            yield arrays_of_scores({"before": before, "after": after[:, column]})

    n_rows = len(trials) * len(cells)
    units = [
        Unit(UnitName("grid", q_id, vector.name), partial(_made_from, common, vector), len(trials), n_rows, rows=n_rows)
        for vector in vectors
    ]
    return Job(units, compute, VECTORS_AT_ONCE)


def _made_from(common: list[Any], vector: Vector) -> list[Any]:
    return [*common, digest_of_tensor(vector.values)]


def eval_trials(snapshot: Snapshot, q_id: str, n_eval: int | None) -> list[Trial]:
    """Eval trials of a relation, each query once: the first `n_eval`, or all if it is None."""
    return snapshot.evaluated(q_id, n_eval)


def eval_parts(
    snapshot: Snapshot, qids: Sequence[str], n_eval: int | None, dev_fraction: float, seed: int
) -> dict[str, str]:
    """Divide relations' eval trials: {trial_id: `dev` or `test`}.

    Args:
        snapshot: the trials.
        qids: the relations.
        n_eval: number of eval trials per relation; None for all.
        dev_fraction: the share of `dev`; 0 if there is no choice to make.
        seed: seed of the random division.

    Raises:
        TrialError: a relation has too few trials to be divided into two parts.
    """
    parts: dict[str, str] = {}
    for q_id in qids:
        trials = eval_trials(snapshot, q_id, n_eval)
        if dev_fraction:
            parts |= parts_of(snapshot, q_id, trials, dev_fraction, seed)
        else:
            parts |= {trial.trial_id: TEST for trial in trials}
    return parts


def qids_of(scopes: Scopes) -> list[str]:
    """All relations that any of the vectors is evaluated on, sorted."""
    return sorted({q_id for _, qids in scopes for q_id in qids})


def arrays_of_scores(scores: Mapping[str, TargetScores]) -> Arrays:
    """Convert named scores to named arrays."""
    return {f"{name}_{part}": getattr(own, part).numpy() for name, own in scores.items() for part in SCORED}


def scores_of_arrays(arrays: Arrays) -> dict[str, TargetScores]:
    """Rebuild the named scores from the arrays of `arrays_of_scores`."""
    names = [key.removesuffix("_rank") for key in arrays if key.endswith("_rank")]
    parts = {name: {part: torch.from_numpy(arrays[f"{name}_{part}"]) for part in SCORED} for name in names}
    return {name: TargetScores(**own) for name, own in parts.items()}
