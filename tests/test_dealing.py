"""How work is dealt, and how long that takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fv.dealing import dealt, makespan

COSTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=60)
Piece = tuple[int, float]


def cost(piece: Piece) -> float:
    return piece[1]


@given(COSTS, st.integers(1, 20))
def test_every_piece_is_dealt_once_and_no_share_is_empty(costs: list[float], n_shares: int) -> None:
    pieces = list(enumerate(costs))
    shares = dealt(pieces, cost, n_shares)
    assert sorted(piece for share in shares for piece in share) == pieces
    assert len(shares) == min(n_shares, len(pieces))
    assert all(shares)


@given(COSTS, st.integers(1, 20))
def test_no_share_is_longer_than_the_bound_for_lists_in_order(costs: list[float], n_shares: int) -> None:
    longest = max(sum(map(cost, share)) for share in dealt(list(enumerate(costs)), cost, n_shares))
    # No schedule is shorter than the mean load or the costliest piece; this one is at most one piece above the mean.
    assert longest <= sum(costs) / n_shares + max(costs) * (1 - 1 / n_shares) + 1e-6


@given(COSTS, st.integers(1, 40))
def test_workers_take_no_less_than_their_share_nor_than_the_longest_piece(seconds: list[float], n: int) -> None:
    found = makespan(seconds, n)
    assert found >= max(sum(seconds) / n, max(seconds)) * (1 - 1e-9)
    assert makespan(seconds, 1) == pytest.approx(sum(seconds))


def test_nothing_takes_no_time() -> None:
    assert makespan([], 3) == 0
