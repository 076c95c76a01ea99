"""The grid: vectors at every (layer, alpha) on eval trials.

A unit is one vector on one relation's trials; those that are missing are computed together, but no bit of one depends
on another (`fv.interventions.engine.Engine.inject`, apart).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fv.data.prompts import prompt_of
from fv.data.snapshot import Snapshot, Trial
from fv.evaluation.selection import TEST, parts_of
from fv.evaluation.trial_rows import EvalTrial, inject_vectors, sort_trials, trial_rows
from fv.interventions.engine import SCORED, Cell, Engine, TargetScores
from fv.models.language_model import LanguageModel
from fv.progress import Advance
from fv.vectors.vector import Vector
from fv.work.flow import Flow, Job, Stage, Unit
from fv.work.store import Arrays, UnitName, digest_of_tensor

VECTORS_AT_ONCE = 8
"""Vectors of a relation that a worker injects at once: as many fill its passes."""
Plan = Sequence[tuple[Vector, Sequence[str]]]
"""Vectors with the relations that they are evaluated on."""


def trials_of(
    lm: LanguageModel, snapshot: Snapshot, qids: Sequence[str], n_eval: int | None, parts: Mapping[str, str]
) -> dict[str, list[EvalTrial]]:
    """Each relation's first `n_eval` eval trials with their zero-shot prompts.

    Args:
        lm: the model, for its tokenizer.
        snapshot: the trials.
        qids: the relations.
        n_eval: how many trials of each; None for all.
        parts: {trial_id: `dev` or `test`}.
    """
    return {
        q_id: [
            EvalTrial(t.trial_id, q_id, parts[t.trial_id], prompt_of(lm, snapshot, t, "zero_shot"))
            for t in eval_trials(snapshot, q_id, n_eval)
        ]
        for q_id in qids
    }


@dataclass(frozen=True)
class Grid:
    """What is injected where.

    Attributes:
        plan: vectors with their relations.
        trials: each relation's, `trials_of`.
        cells: layers and alphas.
        norms: {q_id: what alpha is a multiple of at each layer, (n_layers,)}; None where it is a factor on the vector.
    """

    plan: Plan
    trials: dict[str, list[EvalTrial]]
    cells: Sequence[Cell]
    norms: dict[str, Tensor] | None = None

    def vectors(self, q_id: str) -> list[Vector]:
        """The vectors that are evaluated on a relation."""
        return [vector for vector, on in self.plan if q_id in on]


def grid_flow(engine: Engine, grid: Grid, known: pd.DataFrame | None = None) -> Flow[pd.DataFrame]:
    """Inject vectors into the eval trials of their relations.

    Args:
        engine: the engine.
        grid: what is injected where.
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
    jobs = {q_id: _job(engine, grid, q_id, cells) for q_id in qids_of(grid.plan)}
    found = yield Stage("grid", [*jobs.values()])
    for q_id, own in zip(jobs, found, strict=True):
        for vector, arrays in zip(grid.vectors(q_id), own, strict=True):
            scores = scores_of_arrays(arrays)
            tables.append(trial_rows(vector, grid.trials[q_id], cells, scores["before"], scores["after"]))
    return sort_trials(pd.concat(tables, ignore_index=True))


def _job(engine: Engine, grid: Grid, q_id: str, cells: Sequence[Cell]) -> Job:
    """A relation's vectors: those that are due share the passes of its prompts."""
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
    """The trials of a relation that vectors are evaluated on, no query twice: the first `n_eval`, or all."""
    return snapshot.evaluated(q_id, n_eval)


def eval_parts(
    snapshot: Snapshot, qids: Sequence[str], n_eval: int | None, dev_fraction: float, seed: int
) -> dict[str, str]:
    """{trial_id: `dev` or `test`} of relations' eval trials.

    Args:
        snapshot: the trials.
        qids: the relations.
        n_eval: how many trials of each; None for all.
        dev_fraction: the share of `dev`; 0 where there is no choice to be made.
        seed: of the draw.

    Raises:
        TrialError: a relation has too few trials for two parts.
    """
    parts: dict[str, str] = {}
    for q_id in qids:
        trials = eval_trials(snapshot, q_id, n_eval)
        if dev_fraction:
            parts |= parts_of(snapshot, q_id, trials, dev_fraction, seed)
        else:
            parts |= {trial.trial_id: TEST for trial in trials}
    return parts


def qids_of(plan: Sequence[tuple[Vector, Sequence[str]]]) -> list[str]:
    """All relations that a plan evaluates on, sorted."""
    return sorted({q_id for _, qids in plan for q_id in qids})


def arrays_of_scores(scores: Mapping[str, TargetScores]) -> Arrays:
    """Named scores as arrays."""
    return {f"{name}_{part}": getattr(own, part).numpy() for name, own in scores.items() for part in SCORED}


def scores_of_arrays(arrays: Arrays) -> dict[str, TargetScores]:
    """The scores that `arrays_of_scores` took apart."""
    names = [key.removesuffix("_rank") for key in arrays if key.endswith("_rank")]
    parts = {name: {part: torch.from_numpy(arrays[f"{name}_{part}"]) for part in SCORED} for name in names}
    return {name: TargetScores(**own) for name, own in parts.items()}
