"""Verification: the heads of a screened run whose effects are measured exactly (docs/methods.md, "Screening").

All relations share one set of verified heads, so every relation's ranking and the AIE's are over the same heads.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import numpy as np

from fv.interventions.engine import Head
from fv.seeding import generator_for

NEGATIVE_SHARE = 4
"""Heads verified at the top of each ranking per head verified at its bottom."""


class Chosen(StrEnum):
    """Reason why a head is verified; if several hold, the first of them."""

    best = "best"
    """The head is among the best of a ranking by estimate."""
    negative = "negative"
    """The head is among the most negative of a ranking by estimate."""
    random = "random"
    """The head was drawn at random from all others."""


Scores = Mapping[str, np.ndarray]
"""{q_id: the estimated effect of each head, mean over trials, (n_layers, n_heads); NaN for excluded heads}."""


def verified_heads(scores: Scores, verify: int, n_random: int, seed: int) -> dict[Head, Chosen]:
    """Choose the heads to verify: {head: the reason}, ordered by layer and head.

    All heads are shuffled once; the random heads are the first of them that no ranking chooses. So a larger `verify` or
    `n_random` only adds heads.

    Args:
        scores: the estimates of each relation.
        verify: number of heads from the top of each ranking, by a relation's estimates or by their mean.
        n_random: number of other heads, drawn once for all rankings.
        seed: seed of the shuffled order.
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
    """Number of verified heads out of `n_heads` if all rankings agree."""
    return min(n_heads, verify - (-verify // NEGATIVE_SHARE) + n_random)


def mean_score(scores: Scores) -> np.ndarray:
    """Estimate of the AIE: the unweighted mean over relations, (n_layers, n_heads)."""
    return np.mean([*scores.values()], axis=0)


def estimated_ranking(score: np.ndarray) -> list[Head]:
    """All heads with a finite score, best first, ties to the lower layer and head; `score` is (n_layers, n_heads)."""
    order = np.argsort(-score, axis=None, kind="stable")
    layers, heads = np.unravel_index(order[: np.isfinite(score).sum()], score.shape)
    return [Head(layer, head) for layer, head in zip(layers.tolist(), heads.tolist(), strict=True)]


def random_in_top(verified: Mapping[Head, Chosen], top: Sequence[Head]) -> list[Head]:
    """Randomly verified heads among the top of a ranking: the estimates did not find them."""
    return [head for head in top if verified[head] is Chosen.random]
