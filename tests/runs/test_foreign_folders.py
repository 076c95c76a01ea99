"""A run's folder from somebody else reaches nothing outside itself, by a recorded name or by a link."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from analysed import ANALYSED
from hypothesis import given
from hypothesis import strategies as st
from records import rewrite
from tiny_runs import TinyRun, TinyRunIn, configured

from fv.config import Config
from fv.errors import ArtifactError
from fv.files import read_json
from fv.report.terminal import print_report, report
from fv.runs.paths import RunPaths, is_inside, paths_of_step6, refuse_links
from fv.runs.run import open_run
from fv.steps.analyses import run_analyse
from fv.steps.clean import run_clean
from fv.steps.gather import run_gather
from fv.steps.model_holder import ModelHolder
from fv.steps.pipeline import run_pipeline
from fv.steps.status import run_status
from fv.steps.step6 import run_step6
from fv.steps.stepd import run_stepd

PLACES = [
    *("artifacts/step6", "artifacts/units", "report", "logs", "cluster", "artifacts/analyses"),
    *("logs/stepE.log", "artifacts/step6/step6.log", "artifacts/analyses/cost/analysis.log"),
    *("artifacts/stepD_meta.json", "artifacts/sampled_trials.json", "artifacts/step6/cells"),
]
parts = st.sampled_from(["a", "b.csv", "..", ".", "", "a b", "~", "é"])


@pytest.fixture(scope="module")
def composed(tiny_run_in: TinyRunIn) -> tuple[Config, Config]:
    """The settings of the finished run, and those that ask for an analysis of it."""
    return tiny_run_in(Path("results"))(ANALYSED), configured({"analysis": ["cost"], "run_id": "r"})


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is no part of a run, with a file that nobody may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "kept.csv").write_text("mine\n", encoding="utf-8")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*")}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_in_a_run_that_is_a_link_is_followed_by_any_command(
    composed: tuple[Config, Config], copied_run: Path, outside: Path, place: str
) -> None:
    link, folder = copied_run / place, not Path(place).suffix
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside if folder else outside / "kept.csv")
    before = content(outside)
    config, only = (replace(each, results_dir=str(copied_run.parents[1])) for each in composed)
    again = replace(config, overwrite=True)
    commands: list[Callable[[], object]] = [
        *(lambda: run_pipeline(again), lambda: run_stepd(again), lambda: run_step6(config), lambda: run_clean(config)),
        *(
            lambda: run_analyse(only, given=["analysis"]),
            lambda: report(config),
            lambda: run_status(RunPaths.of(config)),
        ),
        *(
            lambda: run_gather(config),
            lambda: open_run(copied_run),
            lambda: print_report(copied_run / "artifacts" / "step6"),
        ),
    ]
    for command in commands:
        with pytest.raises(ArtifactError):
            command()
    with pytest.raises(ArtifactError, match=rf"{link} is a link to .*Remove it"):
        open_run(copied_run)
    assert link.is_symlink() and content(outside) == before


def test_a_pipe_in_a_run_is_refused_and_not_waited_for(copied_run: Path) -> None:
    os.mkfifo(copied_run / "artifacts" / "extra.json")
    with pytest.raises(ArtifactError, match="neither a file nor a folder"):
        open_run(copied_run)


def test_a_run_whose_own_folder_is_a_link_is_its_users_choice(copied_run: Path, tmp_path: Path) -> None:
    place = tmp_path / "elsewhere"
    copied_run.rename(place)
    copied_run.symlink_to(place)
    refuse_links(copied_run)
    assert len(open_run(copied_run).table("held_out"))


@pytest.mark.parametrize("form", ["absolute", "above", "in the middle"])
def test_names_of_outputs_that_lead_out_are_neither_read_nor_deleted(
    copied_run: Path, outside: Path, form: str
) -> None:
    cost = copied_run / "artifacts" / "analyses" / "cost"
    names = {
        "absolute": str(outside / "kept.csv"),
        "above": os.path.relpath(outside / "kept.csv", cost),
        "in the middle": f"x/../{os.path.relpath(outside / 'kept.csv', cost)}",
    }
    record = cost / "analysis_meta.json"
    digest = next(iter(read_json(record)["outputs"].values()))
    rewrite(record, lambda values: values.update(outputs={names[form]: digest}))
    assert "kept" not in open_run(copied_run).tables
    only = {"analysis": ["cost"], "analysis.cost.n_texts": 2, "run_id": "r", "results_dir": copied_run.parents[1]}
    given = ["analysis", "analysis.cost.n_texts"]
    run_analyse(configured({**only, "overwrite": True}), ModelHolder(), given)
    assert content(outside) == {"kept.csv": b"mine\n"}
    assert len(open_run(copied_run).table("injection_cost"))
    step6 = copied_run / "artifacts" / "step6" / "eval_meta.json"
    rewrite(step6, lambda values: values["outputs"].update({names[form]: digest}))
    with pytest.raises(ArtifactError, match="it leads out of the run's folder"):
        open_run(copied_run)


@given(st.lists(parts, min_size=1, max_size=4).map("/".join))
def test_a_name_is_inside_exactly_if_no_part_of_it_leads_elsewhere(name: str) -> None:
    resolved = os.path.normpath(f"/run/{name}")
    assert not is_inside(name) or (resolved == f"/run/{name}" and resolved.startswith("/run/"))
    assert is_inside(name) or os.path.normpath(name) != name or name.startswith(("..", "/")) or name in (".", "")


def test_a_recorded_tag_does_not_lead_to_another_run(tmp_path: Path) -> None:
    step6 = tmp_path / "r" / "artifacts" / "step6"
    assert paths_of_step6(step6, None) == RunPaths(tmp_path / "r")
    assert paths_of_step6(step6 / "k20" / "part", "k20") == RunPaths(tmp_path / "r", "k20", "part")
    for tag in ("../../../other/artifacts/step6", "/etc", "k5"):
        with pytest.raises(ArtifactError, match="says that it is of the tag"):
            paths_of_step6(step6, tag)


@pytest.mark.slow
def test_a_sweep_is_gathered_where_it_is_and_not_where_its_record_says(
    copied_run: Path, run_of_copy: TinyRun, tmp_path: Path
) -> None:
    models, grid = ModelHolder(), {"evaluation.held_out": False}
    config = run_of_copy(grid, tag="swept")
    run_step6(config, models, as_cell=True)
    moved = tmp_path / "moved" / "relation" / "mine"
    moved.parent.mkdir(parents=True)
    copied_run.rename(moved)
    there = run_of_copy(grid, tag="swept", results_dir=tmp_path / "moved", run_id="mine")
    folder = run_gather(there, models)
    assert folder == moved / "artifacts" / "step6" / "swept" and (folder / "eval_summary.json").exists()
    assert not copied_run.exists()
