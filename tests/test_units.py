"""Units of Step6: what a killed run finished is read back exactly, or computed again."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import MakeConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.artifacts import RunPaths
from fv.errors import ArtifactError
from fv.steps.grid import SHARE_ROWS, shares_of
from fv.steps.held_out import HeldOutRun
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.units import NO_UNITS, UnitStore
from fv.tables import arrays_of, tables_of

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
@given(of=st.dictionaries(texts.filter(lambda name: "\0" not in name and "/" not in name), columns, max_size=4))
def test_tables_are_read_back_exactly(tmp_path_factory: pytest.TempPathFactory, of: dict) -> None:
    table = pd.DataFrame({name: pd.Series(values, dtype=dtype) for name, (dtype, values) in of.items()})
    store = UnitStore(tmp_path_factory.mktemp("units"), {"seed": 1})
    store.keep("a/b", [1], arrays_of({"rows": table, "empty": pd.DataFrame()}))
    arrays = store.find("a/b", [1])
    assert arrays is not None
    found = tables_of(arrays)
    assert found.keys() == {"rows", "empty"}
    pd.testing.assert_frame_equal(found["rows"], table, check_exact=True)


def test_a_unit_of_other_settings_or_a_damaged_one_is_not_found(tmp_path: Path) -> None:
    arrays = {"x": np.array([0.1])}
    UnitStore(tmp_path, "a").keep("u", [1], arrays)
    assert UnitStore(tmp_path, "a").find("u", [1]) is not None
    assert UnitStore(tmp_path, "b").find("u", [1]) is None
    assert UnitStore(tmp_path, "a").find("u", [2]) is None
    assert UnitStore(tmp_path, "a").find("v", [1]) is None
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:-30])
    assert UnitStore(tmp_path, "a").find("u", [1]) is None
    NO_UNITS.keep("u", [1], arrays)
    assert NO_UNITS.find("u", [1]) is None


@given(counts=st.lists(st.integers(1, 300), min_size=1, max_size=12))
def test_shares_hold_every_relation_once_and_no_more_than_a_pass_needs(counts: list[int]) -> None:
    n_trials = {f"q{i:02d}": n for i, n in enumerate(counts)}
    shares = shares_of([(None, list(n_trials))], n_trials)  # type: ignore[list-item]
    assert [q for share in shares for q in share] == list(n_trials)
    for i, share in enumerate(shares):
        rows = [n_trials[q] for q in share]
        assert sum(rows[:-1]) < SHARE_ROWS
        assert sum(rows) >= SHARE_ROWS or i == len(shares) - 1


def test_an_interrupted_step6_goes_on_and_ends_with_the_same_bytes(
    make_config: MakeConfig, tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*tiny_overrides, "evaluation=full", "injection.fv=all_qids", "stats.n_resamples=200"]
    overrides += ["evaluation.n_unrelated=2", "evaluation.controls.random_vectors=2"]
    config = make_config(*overrides)
    monkeypatch.setattr("fv.steps.grid.SHARE_ROWS", 1)  # a share for each relation
    whole = make_config(*overrides, f"results_dir={tmp_path / 'whole'}")
    run_pipeline(whole)
    assert not (RunPaths.of(whole).step6 / "units").exists()

    done: list[str] = []
    run_relation = HeldOutRun._run_relation

    def interrupted(self: HeldOutRun, q_id: str) -> object:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(q_id)
        return run_relation(self, q_id)

    monkeypatch.setattr(HeldOutRun, "_run_relation", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(config)
    step6 = RunPaths.of(config).step6
    assert len(list((step6 / "units").glob("grid*.npz"))) == 3 and len(list(step6.glob("units/held_out*.npz"))) == 1
    again: list[str] = []
    monkeypatch.setattr(HeldOutRun, "_run_relation", lambda self, q: (again.append(q), run_relation(self, q))[1])
    monkeypatch.setattr("fv.steps.grid.evaluate", lambda *_: pytest.fail("the grid was finished"))
    run_step6(config)
    assert len(done) == 1 and len(again) == 2 and not {*done} & {*again}
    names = [p.name for p in RunPaths.of(whole).step6.iterdir() if p.suffix in (".csv", ".jsonl")]
    assert len(names) == 8
    for name in ("eval_summary.json", *names):
        assert (step6 / name).read_bytes() == (RunPaths.of(whole).step6 / name).read_bytes(), name
    assert not (step6 / "units").exists()


def test_overwriting_starts_over(
    make_config: MakeConfig, tiny_overrides: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(*tiny_overrides, "injection.layer=1")
    run_pipeline(config)
    monkeypatch.setattr("fv.steps.step6.write_results", lambda *_: (_ for _ in ()).throw(ArtifactError("disk full")))
    config.overwrite = True
    with pytest.raises(ArtifactError, match="disk full"):
        run_step6(config)
    step6 = RunPaths.of(config).step6
    assert list((step6 / "units").glob("grid*.npz"))
    calls = []
    from fv.steps import grid

    evaluate = grid.evaluate
    monkeypatch.setattr(grid, "evaluate", lambda *args: (calls.append(args), evaluate(*args))[1])
    with pytest.raises(ArtifactError, match="disk full"):
        run_step6(config)
    assert calls, "the unit of the run that is to be thrown away was used"
