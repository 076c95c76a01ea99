"""Distribution of pieces of work over workers, longest first."""

import heapq
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def dealt(pieces: Sequence[T], cost: Callable[[T], float], n_shares: int) -> list[list[T]]:
    """Divide pieces into at most `n_shares` shares of about the same cost.

    Each piece goes to the least loaded share, the costliest piece first. This is Graham's rule: the largest share costs
    at most a third more than the best possible (SIAM J. Appl. Math. 17, 1969).
    """
    shares: list[list[T]] = [[] for _ in range(min(n_shares, len(pieces)))]
    laden = [(0.0, i) for i in range(len(shares))]
    for piece in sorted(pieces, key=cost, reverse=True):
        so_far, i = laden[0]
        shares[i].append(piece)
        heapq.heapreplace(laden, (so_far + cost(piece), i))
    return shares


def makespan(seconds: Sequence[float], n_workers: int) -> float:
    """Seconds until all workers are done with pieces that `dealt` distributes."""
    return max(map(sum, dealt(seconds, float, n_workers)), default=0.0)
