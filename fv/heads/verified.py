"""Which heads a screened run verifies, which is to say measures (docs/methods.md, "Screening").

One set for the run: every relation's ranking, and the mean over relations, then have effects of the same heads.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

from fv.interventions.engine import Head
from fv.seeding import generator_for

NEGATIVE_SHARE = 4
"""At the low end of each ranking, so many times fewer heads are verified than at the high end."""


class Chosen(StrEnum):
    """Why a head is verified; of several reasons the first."""

    best = "best"
    """It is among the best of a ranking by estimate."""
    negative = "negative"
    """It is among the most negative of one."""
    random = "random"
    """It was drawn from all others."""


Scores = Mapping[str, np.ndarray]
"""{q_id: the estimated effect of each head, mean over trials, (n_layers, n_heads)}; NaN where heads are left out."""


def verified_heads(scores: Scores, verify: int, n_random: int, seed: int) -> dict[Head, Chosen]:
    """The heads to verify, by layer and head, each with why.

    Random heads are the first, in one shuffled order of all heads, of those that no score chooses. So a greater
    `verify` or `n_random` gives a set that holds the smaller one's.

    Args:
        scores: the estimates of each relation.
        verify: heads from the top of each ranking: each relation's, and that of the mean over relations.
        n_random: others, drawn once for all rankings.
        seed: of the order that they are drawn in.
    """
    rankings = [estimated_ranking(own) for own in (*scores.values(), mean_score(scores))]
    n_negative = -(-verify // NEGATIVE_SHARE)
    best = {head for ranking in rankings for head in ranking[:verify]}
    negative = {head for ranking in rankings for head in ranking[-n_negative:]} - best
    heads = sorted(rankings[0])
    order = [heads[i] for i in generator_for(seed, "verify_random").permutation(len(heads))]
    others = [head for head in order if head not in best | negative]
    reasons = {Chosen.best: best, Chosen.negative: negative, Chosen.random: others[:n_random]}
    why = {head: reason for reason, chosen in reasons.items() for head in chosen}
    return {head: why[head] for head in sorted(why)}


def fewest_verified(n_heads: int, verify: int, n_random: int) -> int:
    """How many heads of so many are verified where all rankings agree."""
    return min(n_heads, verify - (-verify // NEGATIVE_SHARE) + n_random)


def mean_score(scores: Scores) -> np.ndarray:
    """The unweighted mean over relations, (n_layers, n_heads): the estimate of the AIE."""
    return np.mean([*scores.values()], axis=0)


def estimated_ranking(score: np.ndarray) -> list[Head]:
    """Heads that have a score, (n_layers, n_heads), best first, ties to the lower layer and head."""
    order = np.argsort(-score, axis=None, kind="stable")
    layers, heads = np.unravel_index(order[: np.isfinite(score).sum()], score.shape)
    return [Head(layer, head) for layer, head in zip(layers.tolist(), heads.tolist(), strict=True)]


def random_in_top(verified: Mapping[Head, Chosen], top: Sequence[Head]) -> list[Head]:
    """Heads of a ranking's top that are verified by chance alone: what the estimates did not find."""
    return [head for head in top if verified[head] is Chosen.random]
