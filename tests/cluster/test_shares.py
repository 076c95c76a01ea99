"""How the tasks of a stage are dealt."""

from hypothesis import given
from hypothesis import strategies as st

from fv.cluster.work.stage import Task, dealt

COSTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=60)


@given(COSTS, st.integers(1, 20))
def test_every_task_is_dealt_once_and_no_share_is_empty(costs: list[float], n_shares: int) -> None:
    tasks = [Task(str(i), {}, cost=cost) for i, cost in enumerate(costs)]
    shares = dealt(tasks, n_shares)
    assert sorted((task for share in shares for task in share), key=lambda t: int(t.name)) == tasks
    assert len(shares) == min(n_shares, len(tasks))
    assert all(shares)


@given(COSTS, st.integers(1, 20))
def test_no_share_is_longer_than_the_bound_for_lists_in_order(costs: list[float], n_shares: int) -> None:
    shares = dealt([Task(str(i), {}, cost=cost) for i, cost in enumerate(costs)], n_shares)
    longest = max(sum(task.cost for task in share) for share in shares)
    # No schedule is shorter than the mean load or the costliest task; this one is at most one task above the mean.
    assert longest <= sum(costs) / n_shares + max(costs) * (1 - 1 / n_shares) + 1e-6
