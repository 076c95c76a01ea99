"""The grid: vectors at every (layer, alpha) on eval trials.

A unit is one vector on one relation's trials; those that are missing are computed together, but no bit of one depends
on another (`fv.interventions.engine.Engine.inject`, apart).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from fv.data.sampling import prompt_of
from fv.data.snapshot import Snapshot, Trial
from fv.evaluation.selection import TEST, parts_of
from fv.evaluation.trial_rows import EvalTrial, inject_vectors, sort_trials, trial_rows
from fv.interventions.engine import SCORED, Cell, Engine, TargetScores
from fv.models.language_model import LanguageModel
from fv.progress import progress_bar
from fv.units import NO_UNITS, Arrays, UnitName, UnitStore, digest_of_tensor
from fv.vectors.vector import Vector

Plan = Sequence[tuple[Vector, Sequence[str]]]
"""Vectors with the relations that they are evaluated on."""
log = logging.getLogger(__name__)


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

    @property
    def n_rows(self) -> int:
        """Trial rows, for progress."""
        return sum(len(self.trials[q]) for _, qids in self.plan for q in qids) * len(self.cells)


def evaluate_vectors(
    name: str, engine: Engine, grid: Grid, units: UnitStore = NO_UNITS, known: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Evaluate vectors on the eval trials of their relations.

    Args:
        name: what the progress bar is called.
        engine: the engine.
        grid: what is injected where.
        units: finished vectors on relations, to read and to add to.
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
    with progress_bar(name, grid.n_rows * len(cells) // len(grid.cells)) as (advance, rename):
        for q_id in qids_of(grid.plan):
            rename(q_id)
            vectors, trials = [v for v, on in grid.plan if q_id in on], grid.trials[q_id]
            prompts = [trial.prompt for trial in trials]
            norm = grid.norms[q_id] if grid.norms else None
            asked = [
                [[p.token_ids, p.target] for p in prompts],
                [*map(list, cells)],
                None if norm is None else norm.tolist(),
            ]
            found = {v.name: units.find(*_unit(q_id, v, asked)) for v in vectors}
            missing = [v for v in vectors if found[v.name] is None]
            advance(len(trials) * len(cells) * (len(vectors) - len(missing)))
            if missing:
                before, after = inject_vectors(engine, missing, prompts, cells, norm, advance)
                for i, vector in enumerate(missing):
                    found[vector.name] = own = arrays_of_scores({"before": before, "after": after[:, i]})
                    units.keep(*_unit(q_id, vector, asked), own)
            for vector in vectors:
                scores = scores_of_arrays(found[vector.name] or {})
                tables.append(trial_rows(vector, trials, cells, scores["before"], scores["after"]))
            log.info("%s: %s%s on all eval trials", name, q_id, "" if missing else " found finished")
    return sort_trials(pd.concat(tables, ignore_index=True))


def _unit(q_id: str, vector: Vector, asked: list[Any]) -> tuple[UnitName, list[Any]]:
    """A unit's name and what it is made from."""
    return UnitName("grid", q_id, vector.name), [*asked, digest_of_tensor(vector.values)]


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
