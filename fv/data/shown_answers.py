"""Eval answers that fit prompts show: a vector may raise an answer because it was made of prompts that show it."""

from fv.data.relations import normalise
from fv.data.snapshot import Snapshot


def answers_shown(snapshot: Snapshot, q_id: str) -> dict[str, bool]:
    """Find the eval trials whose right answer appears in a clean fit prompt of their own relation.

    Answers are compared in normal form (`fv.data.relations.normalise`). Every fit trial counts, with its query's answer
    and its demonstrations' outputs. Under `hold_out=outputs` none is shown; if the eval trials are the fit trials (a
    shared split), all are.

    Args:
        snapshot: the trials.
        q_id: the relation.

    Returns:
        {trial_id: whether it is shown} of the relation's eval trials, in order.

    Example:
        >>> from fv.data.shown_answers import answers_shown
        >>> trials = fv.sample_trials({"antonym": pairs}, lm, demos=2, fit=2, held_out=2)
        >>> answers_shown(trials.snapshot, "antonym")
        {'antonym:eval:0000': False, 'antonym:eval:0001': False}
    """
    fit = snapshot.of(q_id, "fit")
    shown = {normalise(pair.exB) for trial in fit for pair in (trial.query, *trial.demos)}
    return {trial.trial_id: normalise(trial.query.exB) in shown for trial in snapshot.of(q_id, snapshot.eval_split)}
