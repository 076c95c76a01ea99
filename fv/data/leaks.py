"""Leaks: eval queries that fit prompts of other relations show.

The AIE, the global vector and transfer take heads and means from the fit prompts of several relations. A relation's own
fit prompts never show its eval queries (`fv.data.relation_sampler`), but `country_capital` may ask for a pair that
`city_country` was fitted on.
"""

from collections import defaultdict
from collections.abc import Collection

from fv.data.relations import Pair, normalise
from fv.data.snapshot import Snapshot


def eval_pairs_elsewhere(snapshot: Snapshot, among: Collection[str] | None = None) -> dict[str, dict[str, list[str]]]:
    """Find the eval queries that appear in other relations' fit prompts, as a pair in normal form, in either direction.

    Every fit trial counts, with its query and its right demonstrations; a run that patches or averages fewer trials
    (`n_trials` of `score`, `n_mean_trials` of `data`) shows only a part of these.

    Args:
        snapshot: the trials.
        among: the relations whose fit prompts are searched; all of the snapshot unless given.

    Returns:
        {q_id: {trial_id: the other relations that show its query, sorted}}: every relation of the snapshot, with only
        the eval trials whose query is shown. If vectors are evaluated on fit trials (a shared split), these are the
        eval trials.
    """
    shown_in: dict[frozenset[str], set[str]] = defaultdict(set)
    for trial in snapshot.trials:
        if trial.split == "fit" and (among is None or trial.q_id in among):
            for pair in (trial.query, *trial.demos):
                shown_in[_ends(pair)].add(trial.q_id)
    found: dict[str, dict[str, list[str]]] = {q_id: {} for q_id in snapshot.qids}
    for q_id in snapshot.qids:
        for trial in snapshot.evaluated(q_id):
            others = shown_in.get(_ends(trial.query), set()) - {q_id}
            if others:
                found[q_id][trial.trial_id] = sorted(others)
    return found


def _ends(pair: Pair) -> frozenset[str]:
    """A pair in normal form, without its direction."""
    return frozenset((normalise(pair.exA), normalise(pair.exB)))
