"""What a worker does with a task, and what is told of it afterwards."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeConfig

from fv.cluster.base.records import DONE, FAILED, begin_stage, read_record, read_stage
from fv.cluster.base.tasks import Task, TaskSet, WorkerSpec
from fv.cluster.base.worker_process import code_digest, run_task
from fv.cluster.local import devices_of_each
from fv.cluster.ray import Ray
from fv.cluster.slurm import Slurm
from fv.errors import ClusterError, ConfigError


class Echo:
    """A worker that gives back what it is asked, or fails as it is asked to."""

    made = 0

    def __init__(self, settings: Any) -> None:
        Echo.made += 1
        self.settings = settings

    def __call__(self, ask: dict[str, Any]) -> Any:
        if "fail" in ask:
            raise {"user": ConfigError("score.k=0 is nothing."), "other": OSError(28, "No space left")}[ask["fail"]]
        return [self.settings, ask]


def worker_spec(folder: Path, settings: Any = "s", code: str | None = None) -> WorkerSpec:
    return WorkerSpec(f"{__name__}:Echo", settings, folder, code or code_digest(), Path.cwd())


def task_set(folder: Path, *names: str, **ask: Any) -> TaskSet:
    (folder / "stage").mkdir(exist_ok=True)
    return TaskSet("StepD", "effects", [Task(name, ask, "a/b") for name in names], folder / "stage")


def test_a_task_that_is_done_says_what_was_made_where_and_when(tmp_path: Path) -> None:
    one = task_set(tmp_path, "effects-a/b-0-3", q_id="a/b")
    begin_stage(one, "Local", 5.0)
    record = run_task(worker_spec(tmp_path), one.folder, one.tasks[0])
    assert (record.state, record.result, record.pid) == (DONE, ["s", {"q_id": "a/b"}], os.getpid())
    assert read_record(one.folder, "effects-a/b-0-3") == record
    assert read_stage(one.folder).records == {"effects-a/b-0-3": record}


@pytest.mark.parametrize(
    ("kind", "line"), [("user", "score.k=0 is nothing."), ("other", "OSError: [Errno 28] No space")]
)
def test_a_task_that_fails_keeps_its_error_and_the_end_of_its_traceback(tmp_path: Path, kind: str, line: str) -> None:
    one = task_set(tmp_path, "t", fail=kind)
    begin_stage(one, "Local", 5.0)
    record = run_task(worker_spec(tmp_path), one.folder, one.tasks[0])
    assert record.state == FAILED
    assert record.error[0].startswith(line)
    assert any("__call__" in each for each in record.error[1:])


def test_a_worker_is_made_once_for_the_same_work(tmp_path: Path) -> None:
    one = task_set(tmp_path, "a", "b")
    before = Echo.made
    for task in (*one.tasks, *one.tasks):
        run_task(worker_spec(tmp_path), one.folder, task)
    assert Echo.made == before + 1
    run_task(worker_spec(tmp_path, "other"), one.folder, one.tasks[0])
    assert Echo.made == before + 2


def test_a_worker_of_another_version_refuses_in_one_line(tmp_path: Path) -> None:
    one = task_set(tmp_path, "t")
    record = run_task(worker_spec(tmp_path, code="another"), one.folder, one.tasks[0])
    assert record.state == FAILED
    assert "another version of the project" in record.error[0]


def test_a_worker_that_does_not_see_the_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="all machines share"):
        run_task(worker_spec(tmp_path), tmp_path / "nowhere", Task("t", {}))


def test_a_stage_that_is_begun_again_keeps_what_was_done_and_forgets_what_failed(tmp_path: Path) -> None:
    first = task_set(tmp_path, "good")
    bad = task_set(tmp_path, "bad", fail="user")
    both = TaskSet("StepD", "effects", [*first.tasks, *bad.tasks], first.folder)
    begin_stage(both, "Local", 1.0)
    for task in both.tasks:
        run_task(worker_spec(tmp_path), both.folder, task)
    begin_stage(bad, "Local", 2.0)
    found = read_stage(both.folder)
    assert [task.name for task in found.tasks] == ["good", "bad"]
    assert {name: record.state for name, record in found.records.items()} == {"good": DONE}


def test_records_are_plain_json(tmp_path: Path) -> None:
    one = task_set(tmp_path, "t")
    begin_stage(one, "Local", 1.0)
    run_task(worker_spec(tmp_path), one.folder, one.tasks[0])
    assert {path.name for path in one.folder.iterdir()} == {"stage.json", "t.done.json"}
    assert json.loads((one.folder / "t.done.json").read_text())["host"]


@pytest.mark.parametrize(
    ("visible", "n_workers", "each"),
    [
        ([], 2, [[], []]),
        (["0"], 2, [["0"], ["0"]]),
        (["0", "1"], 3, [["0"], ["1"], ["0"]]),
        (["4", "5", "6", "7"], 2, [["4", "5"], ["6", "7"]]),
        (["0", "1", "2"], 2, [["0"], ["1"]]),
    ],
)
def test_workers_of_one_machine_share_its_gpus(visible: list[str], n_workers: int, each: list[list[str]]) -> None:
    assert devices_of_each(visible, n_workers) == each


@pytest.mark.parametrize(("cluster", "extra"), [(Slurm(), "slurm"), (Ray(), "ray")])
def test_what_is_not_installed_is_named(
    cluster: Any, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=rf"function-vectors\[{extra}\]"), cluster.running(worker_spec(tmp_path)):
        pass


def test_any_option_of_slurm_can_be_given(make_config: MakeConfig) -> None:
    config = make_config("cluster=slurm", "cluster.options={hold: true, nodelist: n1}", "cluster.setup=[module load x]")
    assert isinstance(config.cluster, Slurm) and config.cluster.options == {"hold": True, "nodelist": "n1"}
    with pytest.raises(ConfigError, match="by their long names"):
        make_config("cluster=slurm", "cluster.options=hold")


def test_slurm_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="no sbatch here"), Slurm().running(worker_spec(tmp_path)):
        pass
