"""The garbage collector, paused and frozen."""

import gc
from collections.abc import Iterator

import pytest

from fv.collector import frozen_afterwards, paused_collector


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.enable()
    gc.unfreeze()


def test_the_collector_rests_inside_and_works_afterwards_even_after_an_error() -> None:
    with pytest.raises(KeyError), paused_collector():
        assert not gc.isenabled()
        raise KeyError
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with frozen_afterwards():
        pass
    assert not gc.isenabled()


def test_what_was_made_is_not_walked_again() -> None:
    with frozen_afterwards():
        made = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= len(made)
    assert not any(each is made for each in gc.get_objects())
    assert gc.isenabled()


def test_nothing_is_frozen_when_making_it_failed() -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ImportError), frozen_afterwards():
        raise ImportError
    assert gc.get_freeze_count() == frozen
    assert gc.isenabled()
