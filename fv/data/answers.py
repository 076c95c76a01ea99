"""Answers that fit prompts show."""

from fv.data.relations import normalise
from fv.data.snapshot import Snapshot


def answers_shown(snapshot: Snapshot, q_id: str) -> dict[str, bool]:
    """{trial_id of an eval trial: whether its right answer stands in a clean fit prompt of its relation}."""
    fit = snapshot.of(q_id, "fit")
    seen = {normalise(pair.exB) for trial in fit for pair in (trial.query, *trial.demos)}
    return {t.trial_id: normalise(t.query.exB) in seen for t in snapshot.of(q_id, snapshot.eval_split)}
