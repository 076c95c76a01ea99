"""Choosing on one part of the eval trials, reporting on the other (docs/methods.md, "Held-out choice").

`dev` trials choose layer, alpha and k; `test` trials are what a chosen cell is reported on.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fv.data.kin_groups import kin_groups
from fv.data.snapshot import Snapshot, Trial
from fv.errors import DevTrialsError
from fv.interventions.engine import Cell
from fv.seeding import generator_for

DEV, TEST = "dev", "test"
CHOICE = ["fv", "eval_qid"]
PRIMARY = "delta_logprob"


def parts_of(snapshot: Snapshot, q_id: str, trials: Sequence[Trial], dev_fraction: float, seed: int) -> dict[str, str]:
    """Divide one relation's eval trials: {trial_id: `dev` or `test`}.

    Trials whose queries have the same input or are each other's reverse, in normalised form, stay together; kinship is
    passed on through every pair that the snapshot shows of the relation.

    Raises:
        DevTrialsError: there are no two groups of trials to divide; says what would do.
    """
    groups = _groups(snapshot, q_id, trials)
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise DevTrialsError(
            f"{q_id}: its {len(trials)} eval trials make {len(sizes)} group that shares no input and no reversed pair, "
            f"and dev_fraction={dev_fraction} needs 2: one to choose layer and alpha on, one to report on. "
            "Sample more, leave the relation out, or inject with one layer, one alpha and one k, where nothing is "
            "chosen."
        )
    wanted = min(max(1, round(dev_fraction * len(trials))), len(trials) - 1)
    order = list(sizes)
    generator_for(seed, "dev", q_id).shuffle(order)
    dev: set[int] = set()
    for group in order:
        if sum(sizes[g] for g in dev) + sizes[group] <= wanted:
            dev.add(group)
    # Where every group is larger than the part asked for, the smallest one is nearest to it.
    dev = dev or {min(order, key=lambda group: sizes[group])}
    return {trial.trial_id: DEV if group in dev else TEST for trial, group in zip(trials, groups, strict=True)}


def _groups(snapshot: Snapshot, q_id: str, trials: Sequence[Trial]) -> list[int]:
    """The kin group of each trial's query."""
    queries = [trial.query for trial in trials]
    shown = [trial for trial in snapshot.trials if trial.q_id == q_id]
    others = dict.fromkeys(pair for trial in shown for pair in (trial.query, *trial.demos))
    return kin_groups([*queries, *others])[: len(queries)].tolist()


def choose_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """For each (fv, eval_qid) the cell with the highest mean Δ log p on dev trials, ties by layer then alpha.

    Args:
        rows: trial rows (`fv.evaluation.trial_rows.TRIAL_COLUMNS`) with `part`.

    Returns:
        one row a (fv, eval_qid): fv_source, k, layer, alpha, n_dev, n_test, dev_mean_delta_logprob, and best_k: whether
        this vector has the highest dev mean of its source's vectors, ties to the smaller k. Without dev trials nothing
        is chosen: a pair is in the table only if it has a single cell.
    """
    cell = [*CHOICE, "layer", "alpha"]
    # The order of a sum decides its last bit, and that would decide ties: always that of the files.
    dev = rows[rows["part"] == DEV].sort_values([*cell, "trial_id"])
    n_test = rows[rows["part"] == TEST].groupby(CHOICE)["trial_id"].nunique().rename("n_test")
    if dev.empty:
        cells = rows.drop_duplicates(cell)
        alone = cells.groupby(CHOICE)["fv"].transform("size") == 1
        best = cells.loc[alone, [*cell, "fv_source", "k"]].assign(n_dev=0, dev_mean_delta_logprob=np.nan)
    else:
        means = dev.groupby(cell, sort=True).agg(
            fv_source=("fv_source", "first"),
            k=("k", "first"),
            n_dev=("trial_id", "size"),
            dev_mean_delta_logprob=(PRIMARY, "mean"),
        )
        best = _best_rows(means.reset_index(), CHOICE)
    best = best.merge(n_test, on=CHOICE)
    best["best_k"] = best.index.isin(_best_rows(best.sort_values("k", kind="stable"), ["fv_source", "eval_qid"]).index)
    columns = [*CHOICE, "fv_source", "k", "layer", "alpha", "n_dev", "n_test", "dev_mean_delta_logprob", "best_k"]
    return best[columns].sort_values(CHOICE, ignore_index=True)


def _best_rows(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Of each group of rows the one with the best dev mean."""
    means = rows.groupby([*by])["dev_mean_delta_logprob"]
    return rows.loc[[own.index[best_of(own.to_numpy())] for _, own in means]]


def best_of(means: Sequence[float] | np.ndarray) -> int:
    """Which of several means on dev trials is the best: the highest, of equal ones the first."""
    return int(np.argmax(means))


def best_cell(cells: Sequence[Cell], means: Sequence[float], unedited: float) -> Cell:
    """The cell with the highest mean, ties to the earlier one; alpha 0 where none does better than no injection.

    Args:
        cells: (n_cells,), by layer then alpha.
        means: mean log p on dev trials at each, (n_cells,).
        unedited: the same without an injection.
    """
    best = best_of(means)
    return cells[best] if means[best] > unedited else Cell(cells[0].layer, 0.0)


def is_chosen(rows: pd.DataFrame, chosen: pd.DataFrame) -> np.ndarray:
    """Which rows are of a chosen cell, (n_rows,) bool."""
    cell = [*CHOICE, "layer", "alpha"]
    return pd.MultiIndex.from_frame(rows[cell]).isin(pd.MultiIndex.from_frame(chosen[cell]))
