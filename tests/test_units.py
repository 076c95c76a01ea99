"""Units of Step6: what a killed run finished is read back exactly, or computed again."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import MakeConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from fv.artifacts import RunPaths
from fv.errors import ArtifactError
from fv.evaluation import EvalTrial
from fv.injection import Vector, grid
from fv.models.language_model import LanguageModel
from fv.steps.grid import Grid, evaluate_vectors
from fv.steps.held_out import HeldOutRun
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.units import NO_UNITS, UnitStore
from fv.sweep import Prompt
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


def test_what_a_unit_was_computed_with_is_kept_and_no_part_of_its_key(tmp_path: Path) -> None:
    arrays = {"x": np.arange(3)}
    one = UnitStore(tmp_path, "a", {"compute.threads": 1})
    one.keep("u", [1], arrays)
    other = UnitStore(tmp_path, "a", {"compute.threads": 2})
    assert other.find("u", [1]) is not None
    other.keep("v", [1], arrays)
    assert (one.machines, other.machines) == (
        [{"compute.threads": 1}],
        [{"compute.threads": 1}, {"compute.threads": 2}],
    )


def test_processes_that_write_one_unit_at_once_harm_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import numpy as np; from fv.steps.units import UnitStore\n"
        "store = UnitStore(Path(sys.argv[1]), 'a', {'compute.threads': 1})\n"
        "for _ in range(150): store.keep('u', [1], {'x': np.arange(50_000)})"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    reader, seen = UnitStore(tmp_path, "a"), 0
    with subprocess.Popen(command) as one, subprocess.Popen(command) as two:
        while one.poll() is None or two.poll() is None:
            if (found := reader.find("u", [1])) is not None:
                seen += 1
                assert np.array_equal(found["x"], np.arange(50_000))
            else:
                assert not seen, "a unit that was there is gone or torn"
        assert one.returncode == two.returncode == 0
    assert seen and [path.name for path in tmp_path.iterdir()] == ["u.npz"]


def test_another_relation_changes_no_bit_of_a_relations_grid(
    make_config: MakeConfig, tiny_overrides: list[str], tiny_llama: LanguageModel
) -> None:
    rng = np.random.default_rng(0)
    config = make_config(*tiny_overrides, "injection.alpha=[0.5,2.0]")
    cells = grid(config.injection, tiny_llama.n_layers)
    trials = {
        q: [EvalTrial(f"{q}{i}", q, "test", Prompt(tuple(rng.integers(0, 999, 4 + i).tolist()), 7)) for i in range(n)]
        for q, n in (("a", 5), ("b", 9), ("c", 2))
    }
    vectors = [Vector(q, "qid", q, torch.tensor(rng.normal(size=40), dtype=torch.float32)) for q in trials]
    whole = evaluate_vectors(
        "grid", config, tiny_llama, Grid([(v, list(trials)) for v in vectors], trials, cells), NO_UNITS
    )
    for q_id in trials:
        alone = evaluate_vectors(
            "grid", config, tiny_llama, Grid([(v, [q_id]) for v in vectors], trials, cells), NO_UNITS
        )
        pd.testing.assert_frame_equal(alone, whole[whole["eval_qid"] == q_id].reset_index(drop=True), check_exact=True)


def test_an_interrupted_step6_goes_on_and_ends_with_the_same_bytes(
    make_config: MakeConfig, tiny_overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*tiny_overrides, "evaluation=full", "injection.fv=all_qids", "stats.n_resamples=200"]
    overrides += ["evaluation.n_unrelated=2", "evaluation.controls.random_vectors=2"]
    config = make_config(*overrides)
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
