"""What a summary's reader must know that its numbers do not show, as sentences (docs/methods.md, "Caveats")."""

from collections.abc import Iterable, Mapping

import pandas as pd

from fv.data.leaks import eval_pairs_elsewhere
from fv.data.snapshot import Snapshot
from fv.heads.effects import Effects
from fv.vectors.names import relation_name

EXACT = "exact_match"
MANY_COLLISIONS = 0.5
"""Share of a relation's outputs with another's first token from which first tokens say nothing of the answer."""


def caveats(snapshot: Snapshot, measured: Effects | None, rows: pd.DataFrame, name: str = "split") -> list[str]:
    """The sentences that hold for the trial rows of a grid, `fv.evaluation.trial_rows.TRIAL_COLUMNS`.

    Args:
        snapshot: the trials.
        measured: what the vectors were made of; None where that is not known.
        rows: the trial rows.
        name: what a sentence calls the setting by which trials are held out, or shared with those that chose the heads.
    """
    meta, qids = snapshot.meta, sorted(rows["eval_qid"].unique())
    found = []
    if snapshot.eval_split == "fit":
        found.append(
            f"{name}=shared: the trials reported here are the fit trials, which chose the heads and made the "
            f"vectors; every number flatters them. {name}=held_out reports on trials that had no part in it."
        )
    if measured is not None and None in measured.residual_norms.values():
        found.append(
            "Heads and means were measured by an older version, which did not measure the residual stream's norm: "
            "relative norms are missing."
        )
    rates = {q_id: collisions.rate for q_id, collisions in meta.first_token_collisions.items() if q_id in qids}
    for q_id in says_nothing(rates):
        found.append(
            f"{q_id}: {rates[q_id]:.0%} of its outputs share their first token with another one, so log p and accuracy "
            f"of the first token say little; read {EXACT} and answer_logprob."
        )
    return found + _leaks(snapshot, rows)


def says_nothing(rates: Mapping[str, float]) -> list[str]:
    """Relations whose first tokens tell too few of their outputs apart."""
    return sorted(q_id for q_id, rate in rates.items() if rate >= MANY_COLLISIONS)


def _leaks(snapshot: Snapshot, rows: pd.DataFrame) -> list[str]:
    """Eval pairs that other relations' fit prompts show, where vectors are made of other relations."""
    pairs = rows.drop_duplicates(["fv", "eval_qid"])
    # A vector of the relation's own heads and means has seen its own fit prompts only.
    made_of_others = pairs[(pairs["fv_kind"] != "qid") | (pairs["fv_source"] != pairs["eval_qid"].map(relation_name))]
    elsewhere = eval_pairs_elsewhere(snapshot)
    shown = {q_id: len(elsewhere[q_id]) for q_id in sorted(made_of_others["eval_qid"].unique())}
    if not sum(shown.values()):
        return []
    total = sum(len(snapshot.evaluated(q_id)) for q_id in shown)
    return [
        f"{sum(shown.values())} of {total} eval pairs stand in fit prompts of other relations "
        f"({_counted(shown.items())}): vectors made of several relations, and other relations' vectors, have seen them."
    ]


def _counted(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{q_id} {count}" for q_id, count in counts if count)
