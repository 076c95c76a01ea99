"""A damaged run gives the numbers it gave before, or the project's own error with a remedy; never others."""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import rewrite
from tiny_runs import TinyRun, configured

from fv.config import Config
from fv.errors import ArtifactError, FvError
from fv.files import read_json, sha256_of, write_json
from fv.report.terminal import report
from fv.runs.paths import RunPaths
from fv.runs.run import Run, open_run
from fv.steps.analyses import run_analyse
from fv.steps.model_holder import ModelHolder
from fv.steps.pipeline import run_pipeline
from fv.steps.status import run_status
from fv.work.flow import Unit
from fv.work.store import UnitName, UnitStore, unit_names

READ = ("artifacts/units", ".lock", ".log")
"""What of a run no reader opens."""
NUMBER = re.compile(r"[+-]?\d+\.\d+")
shares = st.floats(0, 1, exclude_max=True)


@pytest.fixture(scope="module")
def models() -> ModelHolder:
    """One model for all steps of these tests."""
    return ModelHolder()


@pytest.fixture(scope="module")
def files(finished_run: Path) -> list[str]:
    """The files that readers may open, each before it was damaged."""
    found = sorted(path.relative_to(finished_run).as_posix() for path in finished_run.rglob("*") if path.is_file())
    return [name for name in found if not any(part in name for part in READ) and not name.endswith((".png", ".svg"))]


def damaged(content: bytes, share: float, bit: int | None) -> bytes:
    """A file's content with one bit turned, or cut off where no bit is given."""
    place = int(len(content) * share)
    if bit is None:
        return content[:place]
    return content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :]


def numbers(value: Any) -> Any:
    """What a reader gave, as something that `==` compares, exactly."""
    return value.to_csv() if isinstance(value, pd.DataFrame) else value


def readers(root: Path) -> dict[str, Callable[[Run], Any]]:
    tables = open_run(root).tables
    config = Config(results_dir=str(root.parents[1]), run_id="r")
    return {
        **{f"table {name}": partial(Run.table, name=name) for name in tables},
        "heads": lambda run: run.record("top_heads"),
        "vectors": lambda run: {name: own.values.tolist() for name, own in run.vectors.items()},
        "effects": lambda run: {q_id: own.delta_logprob.tolist() for q_id, own in run.effects.effects.items()},
        "means": lambda run: {q_id: own.clean.tolist() for q_id, own in run.effects.means.items()},
        "result": lambda run: run.result.trials,
        "trials": lambda run: run.trials.snapshot.model_dump_json(),
        "settings": lambda run: [run.config.seed, run.config.model.name, run.meta.model],
        "steps": lambda _: run_status(RunPaths.of(config)).steps,
        "report": lambda _: report(config),
    }


@pytest.mark.slow
def test_readers_of_a_damaged_run_give_the_same_numbers_or_an_error_of_ours(
    finished_run: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = shutil.copytree(finished_run, tmp_path / "relation" / "r")
    every = readers(root)
    run = open_run(root)
    whole = {name: numbers(read(run)) for name, read in every.items()}
    printed = {*NUMBER.findall(capsys.readouterr().out)}
    refused: list[str] = []

    @settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(name=st.sampled_from(files), share=shares, bit=st.none() | st.integers(0, 7))
    def check(name: str, share: float, bit: int | None) -> None:
        content = (root / name).read_bytes()
        if not content:
            return
        (root / name).write_bytes(damaged(content, share, bit))
        try:
            run = open_run(root)
            for reader, read in every.items():
                try:
                    assert numbers(read(run)) == whole[reader], (name, reader)
                except FvError as error:
                    refused.append(f"{name}: {error}")
            # What is damaged of an analysis is left out; the rest is as it was.
            assert {*NUMBER.findall(capsys.readouterr().out)} <= printed, name
        except FvError as error:
            refused.append(f"{name}: {error}")
        finally:
            (root / name).write_bytes(content)

    check()
    assert refused


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=shares, bit=st.none() | st.integers(0, 7))
def test_a_damaged_unit_is_not_finished_or_has_all_of_its_numbers(
    tmp_path: Path, share: float, bit: int | None
) -> None:
    store, arrays = UnitStore(tmp_path, "m", {"threads": 1}), {"logprob": np.arange(3.0), "rank": np.arange(3)}
    unit = Unit(UnitName("effects", "antonym"), lambda: [1])
    store.keep(unit, arrays)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(damaged(path.read_bytes(), share, bit))
    found = UnitStore(tmp_path, "m").find(unit)
    assert found is None or {key: own.tolist() for key, own in found.items()} == {
        key: own.tolist() for key, own in arrays.items()
    }
    assert [own for _, own in unit_names(tmp_path)] in ([], [unit.name])


@pytest.mark.slow
def test_a_unit_whose_directory_has_lost_an_array_is_computed_again(
    copied_run: Path, run_of_copy: TinyRun, models: ModelHolder
) -> None:
    (unit,) = (path for path, name in unit_names(copied_run / "artifacts/units") if name[:2] == ("effects", "antonym"))
    with np.load(unit) as arrays:
        np.savez(unit, **{key: arrays[key] for key in arrays.files if key != "delta_p"})
    scores = copied_run / "artifacts" / "cie_scores.csv"
    whole = scores.read_bytes()
    scores.unlink()
    run_pipeline(run_of_copy(), models)
    assert scores.read_bytes() == whole
    assert "delta_p" in np.load(unit)


@pytest.mark.slow
def test_a_damaged_analysis_is_left_out_and_made_again(
    copied_run: Path,
    models: ModelHolder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    meta = copied_run / "artifacts" / "analyses" / "transfer" / "analysis_meta.json"
    table = open_run(copied_run).table("transfer")
    meta.write_bytes(meta.read_bytes()[:100])
    run = open_run(copied_run)
    assert "transfer" not in run.tables and "cost" in run.analyses and len(run.table("held_out"))
    assert "transfer is left out" in caplog.text and "Remove the file" in caplog.text
    only = {"analysis": ["transfer"], "run_id": "r", "results_dir": copied_run.parents[1]}
    with pytest.raises(ArtifactError, match="Remove the file"):
        run_analyse(configured(only), models, ["analysis"])
    run_analyse(configured({**only, "overwrite": True}), models, ["analysis"])
    pd.testing.assert_frame_equal(open_run(copied_run).table("transfer"), table, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "change"),
    [
        *((name, "cut") for name in ("stepD_meta.json", "fv_global_resid_meta.json", "step6/eval_meta.json")),
        *(("sampled_trials.json", change) for change in ("cut", "edited")),
        *((name, "edited") for name in ("top_heads.json", "step6/eval_summary.json")),
    ],
)
def test_the_remedy_that_an_error_names_brings_a_damaged_file_back(
    copied_run: Path,
    run_of_copy: TinyRun,
    models: ModelHolder,
    name: str,
    change: str,
) -> None:
    path = copied_run / "artifacts" / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-40] if change == "cut" else damaged(whole, 0.5, 0))
    config = run_of_copy()
    try:
        run_pipeline(config, models)
    except ArtifactError as error:
        told = str(error)
        assert str(path) in told, told
        if "Remove the file" in told:
            path.unlink()
            run_pipeline(config, models)
        else:
            assert "overwrite=true" in told, told
            run_pipeline(run_of_copy(overwrite=True), models)
    if name.endswith("meta.json"):
        drop = ("started", "finished", "digest", "overwrite", "computed_with")
        before, after = (
            {k: v for k, v in json.loads(text).items() if k not in drop} for text in (whole, path.read_bytes())
        )
        assert after["outputs"] == before["outputs"] and after.keys() == before.keys()
    else:
        assert path.read_bytes() == whole


def test_a_number_edited_in_metadata_is_refused_by_every_reader(copied_run: Path) -> None:
    path = copied_run / "artifacts" / "stepD_meta.json"
    write_json(path, {**read_json(path), "seed": 8})
    for read in (open_run, lambda root: report(Config(results_dir=str(root.parents[1]), run_id="r"))):
        with pytest.raises(ArtifactError, match=r"stepD_meta\.json was changed or damaged since it was written"):
            read(copied_run)


def test_an_edited_table_is_refused_by_the_report_as_by_the_page(copied_run: Path) -> None:
    for name in ("cie_stats.csv", "trial_metrics.jsonl", "step6/eval_summary.json"):
        path = copied_run / "artifacts" / name
        whole = path.read_text(encoding="utf-8")
        path.write_text(whole.replace("0.1", "0.2"), encoding="utf-8")
        with pytest.raises(ArtifactError, match="recorded SHA-256"):
            report(Config(results_dir=str(copied_run.parents[1]), run_id="r"))
        path.write_text(whole, encoding="utf-8")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None)
@given(data=st.data(), value=json_values)
def test_metadata_of_any_other_form_end_in_an_error_of_ours(
    finished_run: Path, tmp_path: Path, data: st.DataObject, value: Any
) -> None:
    root = tmp_path / "relation" / "r"
    if not root.exists():
        shutil.copytree(finished_run, root)
    path = root / "artifacts" / data.draw(st.sampled_from(["stepD_meta.json", "step6/eval_meta.json"]))
    whole = path.read_bytes()
    key = data.draw(st.sampled_from(["status", "outputs", "inputs", "config", "seed", "settings", "model", "warnings"]))
    rewrite(path, lambda record: record.update({key: value}))
    try:
        report(Config(results_dir=str(tmp_path), run_id="r"))
    except FvError:
        pass
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("text", ['{"schema_version": 1, "status": NaN}', "[" * 5000, '{"a": Infinity}', "\ufeff{}"])
def test_json_that_python_reads_and_json_does_not_have_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"a\.json is truncated or is not JSON"):
        read_json(tmp_path / "a.json")


def test_a_tensor_file_of_odd_vectors_is_refused(copied_run: Path) -> None:
    path = copied_run / "artifacts" / "fv_qid.pt"
    stored = torch.load(path, weights_only=True)
    meta_path = copied_run / "artifacts" / "fv_global_resid_meta.json"
    for odd in (torch.full((40,), torch.nan), torch.zeros(40, dtype=torch.complex64), torch.zeros(2, 20), "text"):
        torch.save({q_id: {**own, "vector": odd} for q_id, own in stored.items()}, path)
        rewrite(meta_path, lambda record: record["outputs"].update({"fv_qid.pt": sha256_of(path)}))
        with pytest.raises(ArtifactError, match=r"fv_qid\.pt holds"):
            _ = open_run(copied_run).vectors
