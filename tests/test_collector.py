"""The garbage collector, paused and frozen."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fv.collector import loaded, paused_collector


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
    with paused_collector():
        pass
    assert not gc.isenabled()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that nobody has loaded yet."""
    (tmp_path / "loaded_by_tests.py").write_text("made = [[] for _ in range(1000)]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "loaded_by_tests", raising=False)
    return "loaded_by_tests"


def test_what_was_loaded_is_not_walked_again(module: str) -> None:
    made = loaded(module).made
    assert gc.get_freeze_count() >= len(made)
    assert not any(each is made for each in gc.get_objects())
    assert gc.isenabled()


def test_a_module_that_is_there_is_given_and_freezes_nothing(module: str) -> None:
    first, frozen = loaded(module), gc.get_freeze_count()
    assert loaded(module) is first
    assert gc.get_freeze_count() == frozen


def test_nothing_is_frozen_when_loading_fails(module: str) -> None:
    frozen = gc.get_freeze_count()
    with pytest.raises(ImportError):
        loaded(f"{module}_not")
    assert gc.get_freeze_count() == frozen
    assert gc.isenabled()
