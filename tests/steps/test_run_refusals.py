"""A finished run and what does not belong to it: each is refused by name, and nothing is lost (spec section 7)."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from analysed import ONE_CONTROL
from records import rewrite
from tiny_runs import Settings, TinyRun, TinyRunIn

from fv.config import Config
from fv.errors import ArtifactError, ConfigError, FvError
from fv.files import sha256_of
from fv.runs.paths import RunPaths
from fv.steps.gather import run_gather
from fv.steps.pipeline import run_pipeline
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd
from fv.steps.stepe import run_stepe
from fv.work import store

Step = Callable[[Config], object]


@pytest.fixture(scope="module")
def finished(tiny_run_in: TinyRunIn, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A finished run; tests copy it."""
    run = tiny_run_in(tmp_path_factory.mktemp("finished")).but(
        {
            "data.n_trials_per_q": 3,
            "data.n_demos": 3,
            "data.n_eval_trials_per_q": 3,
            "score.k": 3,
            "injection.layer": 1,
            "stats.n_resamples": 100,
            "analysis.cost.n_texts": 2,
        },
        ONE_CONTROL,
    )
    run_pipeline(run())
    return run


@pytest.fixture
def copied(finished: TinyRun, tmp_path: Path) -> TinyRun:
    """The finished run in a folder of this test's own."""
    shutil.copytree(finished.settings["results_dir"], tmp_path / "copy")
    return finished.but(results_dir=tmp_path / "copy")


def files_in(folder: Path) -> dict[Path, str]:
    return {
        path: sha256_of(path)
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".log" and not path.name.startswith(".lock")
    }


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"data.n_demos": 2}, "data.n_demos: there 3, here 2"),
        ({"seed": 7}, "seed: there 42, here 7"),
        ({"data.n_trials_per_q": 2}, "data.n_trials_per_q: there 3, here 2"),
        ({"data.corruption": "permute"}, "data.corruption: there 'derange', here 'permute'"),
        ({"score.layers": 1}, r"score.layers: there 'all', here \[1\]"),
    ],
)
@pytest.mark.parametrize("step", [run_stepd, run_stepe, run_step6])
def test_another_configuration_in_the_same_run_is_refused_by_key(
    finished: TinyRun, change: Settings, key: str, step: Step
) -> None:
    config = finished(change)
    before = files_in(RunPaths.of(config).root)
    with pytest.raises(ArtifactError, match=key):
        step(config)
    assert files_in(RunPaths.of(config).root) == before


@pytest.mark.parametrize(
    "change",
    [
        {"compute.max_rows": 50},
        {"compute.sweep": "naive"},
        {"compute.threads": 2},
        {"model.name": "other"},
        {"data.name": "other"},
    ],
)
@pytest.mark.parametrize("step", [run_stepd, run_stepe, run_step6])
def test_names_and_machines_are_no_part_of_a_run(
    copied: TinyRun, caplog: pytest.LogCaptureFixture, change: Settings, step: Step
) -> None:
    config = copied(change)
    before = files_in(RunPaths.of(config).root)
    with caplog.at_level("WARNING"):
        step(config)
    assert files_in(RunPaths.of(config).root) == before
    warned = [r.getMessage() for r in caplog.records if "not to the byte" in r.getMessage()]
    (key,) = change
    assert len(warned) == key.startswith("compute.")
    assert all(key in line for line in warned)


@pytest.mark.parametrize("step", [run_stepe, run_step6])
def test_a_later_step_is_not_told_other_relations_than_the_runs(finished: TinyRun, step: Step) -> None:
    with pytest.raises(ArtifactError, match=r"data\.qids: there \['antonym', .*\], here \['antonym'\]"):
        step(finished({"data.qids": ["antonym"]}))
    step(finished({"data.qids": ["antonym", "country_capital", "verb_past"]}))


def test_another_file_behind_the_same_path_of_a_vector_is_refused(copied: TinyRun, tmp_path: Path) -> None:
    vector = tmp_path / "v.pt"
    torch.save(torch.ones(40), vector)
    own = copied.but({"injection.fv": "file", "injection.fv_path": vector, "evaluation.held_out": False}, tag="file")
    run_step6(own())
    before = files_in(RunPaths.of(own()).step6)
    torch.save(torch.zeros(40), vector)
    with pytest.raises(ArtifactError, match=r"made from other files.*\n  fv_file: there '[0-9a-f]{64}'"):
        run_step6(own())
    assert files_in(RunPaths.of(own()).step6) == before


def test_relations_are_no_less_than_the_runs(finished: TinyRun) -> None:
    with pytest.raises(ArtifactError, match=r"left out here: country_capital, verb_past\. A run grows"):
        run_stepd(finished({"data.qids": ["antonym"]}))


def test_a_setting_that_a_run_did_not_know_does_not_refuse_it(copied: TinyRun) -> None:
    def forget(record: dict[str, Any]) -> None:
        for group, key in (("data", "corruption"), ("score", "adaptive"), ("injection", "alpha_unit")):
            record["config"][group].pop(key)
        record["settings"].pop("injection.alpha_unit", None)

    paths = RunPaths.of(copied())
    for path in (paths.stepd_meta, paths.step6 / "eval_meta.json"):
        rewrite(path, forget)
    before = files_in(paths.root)
    run_pipeline(copied())
    assert files_in(paths.root) == before


def test_another_csv_behind_the_same_path_is_refused(copied: TinyRun, small_csv: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved.csv"
    shutil.copy(small_csv, moved)
    own = copied.but({"data.relation_csv_path": moved}, run_id="moved")
    run_stepd(own())
    moved.write_text(small_csv.read_text() + "antonym,zig,zag\n")
    with pytest.raises(ArtifactError, match=r"made from other pairs of antonym"):
        run_stepd(own())


def test_overwrite_starts_the_run_anew(copied: TinyRun) -> None:
    config = copied({"data.n_demos": 2}, overwrite=True)
    run_stepd(config)
    assert json.loads(RunPaths.of(config).snapshot.read_text())["meta"]["n_demos"] == 2
    assert not RunPaths.of(config).step6.exists()
    with pytest.raises(ArtifactError, match="Run StepE first"):
        run_step6(copied({"data.n_demos": 2}))


@pytest.mark.parametrize(
    ("step", "change"),
    [(run_stepe, {"score.k": 2}), (run_step6, {"injection.alpha": 2}), (run_step6, {"injection.layer": [0, 2]})],
)
def test_other_settings_at_the_same_place_are_refused_unless_overwritten(
    copied: TinyRun, step: Step, change: Settings
) -> None:
    (key,) = change
    with pytest.raises(ArtifactError, match=rf"(?s){re.escape(key)}: there .*tag=<name>.*overwrite=true"):
        step(copied(change))
    step(copied(change, overwrite=True))


@pytest.mark.parametrize(
    ("name", "step", "by"),
    [
        ("sampled_trials.json", run_stepe, "StepD"),
        ("sampled_trials.json", run_step6, "StepD"),
        ("cie_scores.csv", run_stepe, "StepD"),
        ("stepD_mean_acts/qid_antonym_clean_mean.pt", run_stepe, "StepD"),
        ("fv_qid.pt", run_step6, "StepE"),
        ("step6/eval_summary.json", run_step6, "Step6"),
    ],
)
def test_a_truncated_artifact_is_refused_with_both_hashes(copied: TinyRun, name: str, step: Step, by: str) -> None:
    config = copied()
    path = RunPaths.of(config).artifacts / name
    whole = sha256_of(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        ArtifactError, match=rf"not the file {by} wrote: recorded SHA-256 {whole}, found {sha256_of(path)}"
    ):
        step(config)


def test_stepd_mends_its_own_truncated_artifact(copied: TinyRun) -> None:
    config = copied()
    path = RunPaths.of(config).artifacts / "cie_scores.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    run_stepd(config)
    assert path.read_bytes() == whole


def test_a_vector_of_another_run_is_refused(copied: TinyRun, finished: TinyRun) -> None:
    other = copied({"data.n_demos": 2}, run_id="other")
    run_stepd(other)
    run_stepe(other)
    for name in ("fv_global_resid.pt", "fv_global_resid_meta.json", "fv_qid.pt"):
        shutil.copy(RunPaths.of(finished()).artifacts / name, RunPaths.of(other).artifacts / name)
    with pytest.raises(ArtifactError, match=r"sampled_trials\.json: there '[0-9a-f]{64}', here '[0-9a-f]{64}'"):
        run_step6(other)


@pytest.mark.parametrize(
    ("step", "changes", "message"),
    [
        (
            run_stepd,
            {"run_id": "x", "data.qids": ["nope"]},
            r"no relation nope. It has: antonym, country_capital, verb_past",
        ),
        (run_stepd, {"run_id": "x", "score.layers": 3}, r"score\.layers=\[3\].*allows 0 to 2"),
        (run_stepd, {"run_id": "x", "score.heads": [0, 9]}, r"score\.heads.*\[9\].*allows 0 to 3"),
        (run_stepe, {"tag": "x", "score.k": 13}, r"score\.k=13 is more than the 12 heads.*1 to 12"),
        (run_step6, {"tag": "x", "injection.k": [2, 13]}, r"injection\.k=13 is more than the 12 heads.*1 to 12"),
        (run_stepe, {"score.aie_qids": ["antonym", "nope"]}, r"aie_qids: nope not in the snapshot; it has antonym"),
        (run_step6, {"tag": "x", "injection.layer": 3}, r"injection\.layer=\[3\].*allows 0 to 2"),
        (
            run_step6,
            {"tag": "x", "injection.fv": "qid", "injection.fv_source_qid": "nope"},
            r"nope is not in the snapshot; it has antonym",
        ),
        (
            run_step6,
            {"tag": "x", "eval_scope.mode": "qid_list", "eval_scope.qids": ["nope"]},
            r"q_id nope.*the snapshot has antonym",
        ),
        (
            run_step6,
            {"tag": "x", "eval_scope.mode": "in_domain", "injection.fv": "global"},
            r"eval_scope\.mode=in_domain needs a vector of one relation.*injection\.fv=qid.*eval_scope=all_qids",
        ),
        (
            run_step6,
            {"tag": "x", "injection.fv": "file", "injection.fv_path": "/nowhere.pt"},
            r"/nowhere\.pt does not exist",
        ),
        (run_gather, {}, r"no finished cells"),
    ],
)
def test_impossible_choices_name_the_allowed_values(
    copied: TinyRun, step: Step, changes: Settings, message: str
) -> None:
    with pytest.raises(FvError, match=message):
        step(copied(changes))


def test_a_full_disk_keeps_finished_units(tiny_run: TinyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_run()
    paths = RunPaths.of(config)
    write_npz = store.write_npz
    written: list[Path] = []

    def full(path: Path, **arrays: np.ndarray) -> None:
        if len(written) == 4:
            raise OSError(28, "No space left on device", str(path))
        written.append(path)
        write_npz(path, **arrays)

    monkeypatch.setattr(store, "write_npz", full)
    with pytest.raises(OSError, match="No space left"):
        run_stepd(config)
    # Of each relation the clean and the zero-shot prompts, and then the effects.
    assert sorted(path.name.rsplit("-", 1)[0] for path in paths.units.iterdir()) == [
        *("clean-antonym", "clean-country_capital", "zero_shot-antonym", "zero_shot-country_capital")
    ]

    def noted(path: Path, **arrays: np.ndarray) -> None:
        written.append(path)
        write_npz(path, **arrays)

    monkeypatch.setattr(store, "write_npz", noted)
    run_stepd(config)
    assert len(written) == 9 and not {*written[:4]} & {*written[4:]}


def test_a_damaged_unit_is_computed_again(copied: TinyRun) -> None:
    config = copied()
    paths = RunPaths.of(config)
    scores = paths.artifacts / "cie_scores.csv"
    whole = scores.read_bytes()
    (unit,) = paths.units.glob("effects-antonym-*.npz")
    unit.write_bytes(unit.read_bytes()[:200])
    scores.unlink()
    run_stepd(config)
    assert scores.read_bytes() == whole
    assert np.load(unit)["delta_logprob"].shape == (3, 3 * 4)


def test_a_sweep_of_the_pipeline_does_not_overwrite_its_own_jobs(copied: TinyRun) -> None:
    config = copied(overwrite=True)
    before = files_in(RunPaths.of(config).root)
    with pytest.raises(ConfigError, match="each job throw away"):
        run_pipeline(config, as_cell=True)
    assert files_in(RunPaths.of(config).root) == before
