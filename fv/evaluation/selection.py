"""Selection of cells on one part of the eval trials, for reports on the other (docs/methods.md, "Held-out choice").

`dev` trials choose layer, alpha and k; reports on a chosen cell use `test` trials only.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from fv.data.kin_groups import kin_groups
from fv.data.snapshot import Snapshot
from fv.data.trial import Trial
from fv.errors import DevTrialsError
from fv.seeding import generator_for
from fv.vectors.options import Option, Options

DEV, TEST = "dev", "test"
CHOICE = ["fv", "eval_qid"]
PRIMARY = "delta_logprob"


def parts_of(snapshot: Snapshot, q_id: str, trials: Sequence[Trial], dev_fraction: float, seed: int) -> dict[str, str]:
    """Divide one relation's eval trials: {trial_id: `dev` or `test`}.

    Trials stay together if their queries have the same input or are each other's reverse, in normalised form. This
    relation is transitive, also through pairs of the snapshot that are not among these trials.

    Raises:
        DevTrialsError: all trials belong together; the message says what would help.
    """
    groups = _groups(snapshot, q_id, trials)
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise DevTrialsError(
            f"{q_id}: its {len(trials)} eval trials make {len(sizes)} group that shares no input and no reversed pair, "
            f"but dev_fraction={dev_fraction} needs 2: one to choose layer and alpha on, one to report on. "
            "Sample more, leave the relation out, or inject with one layer, one alpha and one k, so that nothing is "
            "chosen."
        )
    wanted = min(max(1, round(dev_fraction * len(trials))), len(trials) - 1)
    order = list(sizes)
    generator_for(seed, "dev", q_id).shuffle(order)
    dev: set[int] = set()
    for group in order:
        if sum(sizes[g] for g in dev) + sizes[group] <= wanted:
            dev.add(group)
    # If every group is larger than the requested part, the smallest group is nearest to it.
    dev = dev or {min(order, key=lambda group: sizes[group])}
    return {trial.trial_id: DEV if group in dev else TEST for trial, group in zip(trials, groups, strict=True)}


def _groups(snapshot: Snapshot, q_id: str, trials: Sequence[Trial]) -> list[int]:
    """Number of the group that each trial's query belongs to."""
    queries = [trial.query for trial in trials]
    shown = [trial for trial in snapshot.trials if trial.q_id == q_id]
    others = dict.fromkeys(pair for trial in shown for pair in (trial.query, *trial.demos))
    return kin_groups([*queries, *others])[: len(queries)].tolist()


def choose_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """Choose for each (fv, eval_qid) the cell with the highest mean Δ log p on dev trials, ties by layer then alpha.

    Args:
        rows: trial rows (`fv.evaluation.trial_rows.TRIAL_COLUMNS`) with `part`.

    Returns:
        one row per (fv, eval_qid): fv_source, k, layer, alpha, n_dev, n_test, dev_mean_delta_logprob, and best_k: True
        if this vector has the highest dev mean of its source's vectors, ties to the smaller k. Without dev trials there
        is nothing to choose by: a (fv, eval_qid) is in the table only if it has a single cell.
    """
    cell = [*CHOICE, "layer", "alpha"]
    # The order of a sum changes its last bit, which could break ties: always sum in the order of the files.
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
    """Row with the best dev mean of each group of rows."""
    means = rows.groupby([*by])["dev_mean_delta_logprob"]
    return rows.loc[[own.index[best_of(own.to_numpy())] for _, own in means]]


def best_of(means: Sequence[float] | np.ndarray) -> int:
    """Index of the best of several means on dev trials: the highest, or the first of equal ones."""
    return int(np.argmax(means))


def best_option(options: Options, means: Sequence[float], unedited: float) -> Option:
    """Choice with the highest mean, ties to the earlier one; `options.without` if none is better than no edit.

    Args:
        options: options with n choices, 1 or more.
        means: mean log p on dev trials of each choice, (n,).
        unedited: mean log p on dev trials without an edit.
    """
    best, without = best_of(means), options.without
    return options.choices[best] if without is None or means[best] > unedited else without


def is_chosen(rows: pd.DataFrame, chosen: pd.DataFrame) -> np.ndarray:
    """Mask of the rows that belong to a chosen cell, (n_rows,) bool."""
    cell = [*CHOICE, "layer", "alpha"]
    return pd.MultiIndex.from_frame(rows[cell]).isin(pd.MultiIndex.from_frame(chosen[cell]))
