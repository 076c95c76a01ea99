"""Units of Step6: what a killed run finished is read back exactly, or computed again."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY_QIDS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_runs import Settings, TinyRun

from fv.config import Config
from fv.evaluation import held_out
from fv.evaluation.cells import grid
from fv.evaluation.grid import Grid, grid_flow
from fv.evaluation.trial_rows import EvalTrial
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.runs.paths import RunPaths
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.tables import arrays_of, tables_of
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL
from fv.work.flow import Unit
from fv.work.store import NO_UNITS, UnitName, UnitStore

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
VALUES = {
    "float64": st.floats(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "Int64": st.none() | st.integers(0, 99),
    "bool": st.booleans(),
    "str": st.none() | texts,
    "object": st.none() | texts | st.integers() | st.floats(allow_nan=False),
}
columns = st.one_of(
    *(st.tuples(st.just(dtype), st.lists(values, min_size=2, max_size=2)) for dtype, values in VALUES.items())
)


@settings(deadline=None)
@given(of=st.dictionaries(texts, columns, max_size=4))
def test_tables_are_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, of: dict) -> None:
    table = pd.DataFrame({name: pd.Series(values, dtype=dtype) for name, (dtype, values) in of.items()})
    store = UnitStore(tmp_path_factory.mktemp("units"), {"seed": 1})
    store.keep(made(UnitName("a/b"), [1]), arrays_of({"rows": table, "empty": pd.DataFrame()}))
    arrays = store.find(made(UnitName("a/b"), [1]))
    assert arrays is not None
    found = tables_of(arrays)
    assert found.keys() == {"rows", "empty"}
    pd.testing.assert_frame_equal(found["rows"], table, check_exact=True)


def test_columns_of_one_name_are_told_apart() -> None:
    table = pd.DataFrame([["a", 1.5], ["b", 2.5]], columns=["fv", "fv"])
    pd.testing.assert_frame_equal(tables_of(arrays_of({"cosines": table}))["cosines"], table, check_exact=True)


def made(name: UnitName, of: Any) -> Unit:
    return Unit(name, lambda: of)


def test_a_unit_of_other_settings_or_a_damaged_one_is_not_found(tmp_path: Path) -> None:
    arrays = {"x": np.array([0.1])}
    UnitStore(tmp_path, "a").keep(made(UnitName("u"), [1]), arrays)
    assert UnitStore(tmp_path, "a").find(made(UnitName("u"), [1])) is not None
    assert UnitStore(tmp_path, "b").find(made(UnitName("u"), [1])) is None
    assert UnitStore(tmp_path, "a").find(made(UnitName("u"), [2])) is None
    assert UnitStore(tmp_path, "a").find(made(UnitName("v"), [1])) is None
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-30])
    assert UnitStore(tmp_path, "a").find(made(UnitName("u"), [1])) is None
    NO_UNITS.keep(made(UnitName("u"), [1]), arrays)
    assert NO_UNITS.find(made(UnitName("u"), [1])) is None


def test_what_a_unit_was_computed_with_is_kept_and_no_part_of_its_key(tmp_path: Path) -> None:
    arrays = {"x": np.arange(3)}
    one = UnitStore(tmp_path, "a", {"compute.threads": 1})
    one.keep(made(UnitName("u"), [1]), arrays)
    other = UnitStore(tmp_path, "a", {"compute.threads": 2})
    assert other.find(made(UnitName("u"), [1])) is not None
    other.keep(made(UnitName("v"), [1]), arrays)
    assert (one.machines, other.machines) == (
        [{"compute.threads": 1}],
        [{"compute.threads": 1}, {"compute.threads": 2}],
    )


@pytest.mark.slow
def test_processes_that_write_one_unit_at_once_harm_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np; from fv.work.flow import Unit\n"
        "from fv.work.store import UnitName, UnitStore\n"
        "store = UnitStore(Path(sys.argv[1]), 'a', {'compute.threads': 1})\n"
        "for _ in range(150): store.keep(Unit(UnitName('u'), lambda: [1]), {'x': np.arange(50_000)})"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    reader, seen = UnitStore(tmp_path, "a"), 0
    with subprocess.Popen(command) as one, subprocess.Popen(command) as two:
        while one.poll() is None or two.poll() is None:
            if (found := reader.find(made(UnitName("u"), [1]))) is not None:
                seen += 1
                assert np.array_equal(found["x"], np.arange(50_000))
            else:
                assert not seen, "a unit that was there is gone or torn"
        assert one.returncode == two.returncode == 0
    assert seen and len(list(tmp_path.iterdir())) == 1


def test_another_relation_changes_no_bit_of_a_relations_grid(tiny_run: TinyRun, tiny_llama: LanguageModel) -> None:
    rng = np.random.default_rng(0)
    config = tiny_run({"injection.alpha": [0.5, 2.0]})
    cells = grid(config.injection, tiny_llama.n_layers)
    trials = {
        q: [
            EvalTrial(f"{q}{i}", q, "test", Prompt(tuple(rng.integers(0, 999, 4 + i).tolist()), (7,))) for i in range(n)
        ]
        for q, n in (("a", 5), ("b", 9), ("c", 2))
    }
    vectors = [Vector(q, "qid", q, torch.tensor(rng.normal(size=40), dtype=torch.float32)) for q in trials]
    engine = SharedPrefixEngine(tiny_llama, config.compute.max_rows)
    whole = SERIAL.run(grid_flow(engine, Grid([(v, list(trials)) for v in vectors], trials, cells)), "grid")
    for q_id in trials:
        alone = SERIAL.run(grid_flow(engine, Grid([(v, [q_id]) for v in vectors], trials, cells)), "grid")
        pd.testing.assert_frame_equal(alone, whole[whole["eval_qid"] == q_id].reset_index(drop=True), check_exact=True)


def full(tiny_run: TinyRun, *changes: Settings) -> Config:
    return tiny_run(
        {
            "evaluation.held_out": True,
            "injection.fv": ["all_qids", "aie_qid"],
            "stats.n_resamples": 200,
            "analysis.cost.n_texts": 2,
            "evaluation.conditions.random_vector.draws": 2,
            "evaluation.conditions.refits.draws": 2,
        },
        *changes,
    )


def tables_in(config: Config) -> dict[str, bytes]:
    """Every table of a run, by name."""
    artifacts = RunPaths.of(config).artifacts
    files = [path for path in artifacts.rglob("*") if path.suffix in (".csv", ".jsonl")]
    files += [RunPaths.of(config).step6 / "eval_summary.json", RunPaths.of(config).stepe / "top_heads.json"]
    return {path.relative_to(artifacts).as_posix(): path.read_bytes() for path in files}


class Watched:
    """Counts what an engine runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("last_token", "patch_heads", "inject"):
            monkeypatch.setattr(SharedPrefixEngine, name, self._counting(name, getattr(SharedPrefixEngine, name)))
        monkeypatch.setattr(held_out, "score_answers", self._counting("score_answers", held_out.score_answers))

    def _counting(self, name: str, function: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return function(*args, **kwargs)

        return counted


@pytest.mark.slow
def test_an_interrupted_step6_goes_on_and_ends_with_the_same_bytes(
    tiny_run: TinyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = (full(tiny_run, {"results_dir": tmp_path / name}) for name in ("cut", "whole"))
    run_pipeline(whole)
    score_answers, calls = held_out.score_answers, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return score_answers(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(held_out, "score_answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_pipeline(config)
    units = RunPaths.of(config).units
    assert len(list(units.glob("grid-*"))) == 6 and len(list(units.glob("held_out-antonym-*"))) == 2
    watched = Watched(monkeypatch)
    run_step6(config)
    # The grid and the first relation are found: what is run are dev choices and conditions of the two others.
    n_whole = watched.calls.count("score_answers")
    assert n_whole == 3 + 3 + 3 + 3
    assert tables_in(config) == tables_in(whole)


@pytest.mark.slow
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_cuts_and_growth_of_units_change_no_byte(
    tiny_run: TinyRun, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    more = {"data.n_trials_per_q": 5, "compute.max_rows": 30}
    whole = full(tiny_run, more, {"results_dir": folder / "whole"})
    run_pipeline(whole)
    units = data.draw(st.sampled_from([1, 2, 3, 64]))
    first = data.draw(st.lists(st.sampled_from(TINY_QIDS), min_size=1, unique=True))
    parts = {"results_dir": folder / "parts", **more, "compute.unit_trials": units}
    run_pipeline(full(tiny_run, parts, {"data.qids": first}))
    grown = full(tiny_run, parts, {"compute.unit_trials": data.draw(st.sampled_from([1, 4]))})
    run_pipeline(grown)
    # Some units are lost, and made again after all others.
    found = sorted(RunPaths.of(grown).units.iterdir())
    for path in data.draw(st.lists(st.sampled_from(found), unique=True, max_size=len(found))):
        path.unlink()
    for path in (RunPaths.of(grown).stepd_meta, RunPaths.of(grown).step6 / "eval_meta.json"):
        path.unlink()
    run_pipeline(grown)
    assert tables_in(grown) == tables_in(whole)


@pytest.mark.slow
def test_overwriting_starts_over(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_run({"injection.layer": 1})
    run_pipeline(config)
    watched = Watched(monkeypatch)
    config.overwrite = True
    run_step6(config)
    assert watched.calls.count("inject") == 3
