"""Dealing pieces of work to workers, longest first."""

import heapq
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def dealt(pieces: Sequence[T], cost: Callable[[T], float], n_shares: int) -> list[list[T]]:
    """Pieces in as many shares, or as there are pieces, of about the same cost: each goes to the least laden share.

    The costliest come first. This is Graham's rule, at most a third longer than the best there is (SIAM J. Appl. Math.
    17, 1969).
    """
    shares: list[list[T]] = [[] for _ in range(min(n_shares, len(pieces)))]
    laden = [(0.0, i) for i in range(len(shares))]
    for piece in sorted(pieces, key=cost, reverse=True):
        so_far, i = laden[0]
        shares[i].append(piece)
        heapq.heapreplace(laden, (so_far + cost(piece), i))
    return shares


def makespan(seconds: Sequence[float], n_workers: int) -> float:
    """How long workers take for pieces that are dealt to them."""
    return max(map(sum, dealt(seconds, float, n_workers)), default=0.0)
