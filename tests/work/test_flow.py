"""A flow comes to the same whoever has its units computed, and says what is missing."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fv.errors import ClusterError
from fv.progress import Advance
from fv.work.driver import SERIAL, Replay, UnitsMissing, UntilMissing, found_or_computed
from fv.work.flow import Flow, Job, Stage, Unit, finished, together
from fv.work.store import Arrays, UnitName, UnitStore

Told = Counter[str]
"""The number of times that each unit was computed."""


def job(names: Sequence[str], told: Told) -> Job:
    """Units that each give how long their name is."""

    def compute(due: Sequence[int], advance: Advance) -> Iterator[Arrays]:
        for place in due:
            told[names[place]] += 1
            advance(1)
            yield {"x": np.array([len(names[place])])}

    return Job([Unit(UnitName("toy", name), lambda: "same", n_trials=1) for name in names], compute)


def counting(name: str, upto: int, told: Told) -> Flow[list[int]]:
    """Asks for one unit after the other; by what the last one gave, it stops."""
    found: list[int] = []
    while sum(found) < upto:
        ((arrays,),) = yield Stage(f"round {len(found)}", [job([f"{name}{len(found)}"], told)])
        found.append(int(arrays["x"][0]))
    return found


flows = st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(0, 12), max_size=4)


@given(asked=flows)
def test_flows_side_by_side_come_to_what_each_comes_to_alone(asked: dict[str, int]) -> None:
    alone = {name: SERIAL.run(counting(name, upto, Counter()), "") for name, upto in asked.items()}
    stages: list[Stage] = []

    def do(stage: Stage) -> list[list[Arrays]]:
        stages.append(stage)
        return [found_or_computed(own, UnitStore(None, None)).arrays for own in stage.jobs]

    both = finished(together({name: counting(name, upto, Counter()) for name, upto in asked.items()}), do)
    assert both == alone and [*both] == [*asked]
    # As many stages as the longest flow has, and not one for each.
    assert len(stages) == max((len(found) for found in alone.values()), default=0)
    assert [stage.name for stage in stages] == sorted(stage.name for stage in stages)


def test_a_unit_is_computed_once_and_found_from_then_on(tmp_path: Path) -> None:
    told: Told = Counter()
    store = UnitStore(tmp_path, "model")
    first = SERIAL.run(counting("a", 7, told), "toy", store)
    assert SERIAL.run(counting("a", 7, told), "toy", store) == first and set(told.values()) == {1}
    assert SERIAL.run(counting("a", 7, told), "toy", UnitStore(tmp_path, "other model")) == first
    assert set(told.values()) == {2}


def test_what_was_computed_before_an_interruption_is_not_computed_again(tmp_path: Path) -> None:
    told: Told = Counter()
    names = ["a", "bb", "ccc"]

    def computing(due: Sequence[int], advance: Advance) -> Iterator[Arrays]:
        for place in due:
            if names[place] == "ccc" and not told["ccc"]:
                told["ccc"] += 1
                raise KeyboardInterrupt
            yield from job(names, told).compute([place], advance)

    def flow() -> Flow[list[int]]:
        (found,) = yield Stage("all", [Job(job(names, told).units, computing)])
        return [int(arrays["x"][0]) for arrays in found]

    with pytest.raises(KeyboardInterrupt):
        SERIAL.run(flow(), "toy", UnitStore(tmp_path, "m"))
    assert SERIAL.run(flow(), "toy", UnitStore(tmp_path, "m")) == [1, 2, 3]
    assert told == {"a": 1, "bb": 1, "ccc": 2}


def test_a_flow_that_others_compute_names_what_is_missing_stage_by_stage(tmp_path: Path) -> None:
    told: Told = Counter()
    store, seen = UnitStore(tmp_path, "m"), []
    while True:
        try:
            found = UntilMissing().run(counting("a", 7, Counter()), "toy", store, about={"x": 1})
            break
        except UnitsMissing as error:
            missing = error.missing
        seen.append((missing.title, missing.about, missing.stage, missing.number))
        replay = Replay(counting("a", 7, told), store)
        stage = replay.go_on_to(missing.number)
        for unit in missing.units:
            assert store.key(stage.jobs[unit.job].units[unit.place]) == unit.key
            found_or_computed(stage.jobs[unit.job], store, places=[unit.place])
    assert found == SERIAL.run(counting("a", 7, Counter()), "toy")
    assert seen == [("toy", {"x": 1}, f"round {n}", n) for n in range(len(found))]
    assert set(told.values()) == {1}


def test_a_worker_that_sees_no_earlier_units_says_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="lacks units of round 0"):
        Replay(counting("a", 7, Counter()), UnitStore(tmp_path, "m")).go_on_to(1)


@pytest.mark.parametrize("raised", [KeyboardInterrupt, ValueError])
def test_what_a_flow_holds_open_is_let_go_however_it_ends(raised: type[BaseException]) -> None:
    held: list[str] = []

    def flow() -> Flow[None]:
        held.append("open")
        try:
            yield Stage("all", [])
        finally:
            held.clear()

    def do(stage: Stage) -> list[list[Arrays]]:
        assert held
        raise raised

    with pytest.raises(raised):
        finished(flow(), do)
    assert not held
