"""The shuffled relation: the outputs of its fit pairs are permuted, so that no function is left (docs/methods.md)."""

import numpy as np

from fv.config import Corruption
from fv.data.corruption import OutputTable, corrupt
from fv.data.encoder import HasTokenizer
from fv.data.relations import Pair
from fv.data.rendering import made_trial
from fv.data.snapshot import Snapshot
from fv.data.trial import Draw, Trial
from fv.seeding import generator_for


def shuffled(snapshot: Snapshot, q_id: str, lm: HasTokenizer, draw: int, seed: int) -> Snapshot:
    """Make the trials of one relation with the outputs of its fit pairs permuted, each permutation equally likely.

    Fit trials keep their queries, demonstrations and order, get the permuted outputs, and are corrupted again. Eval
    trials keep their queries and right answers, on which the vector of these fit trials is evaluated; their
    demonstrations come from the fit pairs, so their outputs are permuted, too. If vectors are evaluated on fit trials
    (split `shared`), the answers there are permuted as well.

    Args:
        snapshot: the trials.
        q_id: the relation.
        lm: the model, or another holder of its tokenizer.
        draw: the number of the permutation.
        seed: the run's seed.

    Raises:
        TrialError: an answer's tokens do not follow a prompt's tokens.
    """
    trials = [trial for trial in snapshot.trials if trial.q_id == q_id]
    rng = generator_for(seed, "shuffled_relation", q_id, draw)
    pairs = fit_pairs(trials)
    order = rng.permutation(len(pairs)).tolist()
    given = {pair: Pair(pair.exA, pairs[i].exB) for pair, i in zip(pairs, order, strict=True)}
    outputs = OutputTable([*given.values()])
    policy = Corruption(snapshot.meta.corruption or Corruption.derange)
    template, encoder = snapshot.template, snapshot.encoder(lm)
    drawn = (_shuffled_draw(trial, given, outputs, policy, rng) for trial in trials)
    made = [made_trial(draw, template, encoder) for draw in drawn]
    return snapshot.only([q_id]).model_copy(update={"trials": made})


def fit_pairs(trials: list[Trial]) -> list[Pair]:
    """The distinct pairs that fit prompts may show: all pairs of fit trials, and the demonstrations of eval trials."""
    fit = [pair for trial in trials if trial.split == "fit" for pair in (trial.query, *trial.demos)]
    return list(dict.fromkeys([*fit, *(pair for trial in trials if trial.split == "eval" for pair in trial.demos)]))


def _shuffled_draw(
    trial: Trial, given: dict[Pair, Pair], outputs: OutputTable, policy: Corruption, rng: np.random.Generator
) -> Draw:
    demos = [given[pair] for pair in trial.demos]
    wrong, corruption = corrupt(demos, outputs, rng, policy)
    query = given[trial.query] if trial.split == "fit" else trial.query
    return Draw.of(trial.trial_id, trial.q_id, trial.split, query, demos, wrong, corruption)
