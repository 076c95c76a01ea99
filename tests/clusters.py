"""Clusters for tests, and what two runs must have in common."""

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from commands import ROOT

from fv.cluster.base.cluster import Cluster, RunTasks
from fv.cluster.base.records import Record
from fv.cluster.base.tasks import TaskSet, WorkerSpec
from fv.cluster.base.worker_process import run_task
from fv.config import Config


@dataclass
class Shuffled(Cluster):
    """This process, which does the tasks of a stage in any order, and some of them twice."""

    seed: int = 0
    """Of the order."""
    seen: list[str] = field(default_factory=list)
    """The stages that were done, and how many tasks each had."""

    def threads(self) -> int:
        return 1

    @contextmanager
    def running(self, spec: WorkerSpec) -> Iterator[RunTasks]:
        rng = random.Random(self.seed)

        def run(task_set: TaskSet) -> Iterator[Record]:
            self.seen.append(f"{task_set.step}, {task_set.stage}: {len(task_set.tasks)}")
            for task in rng.sample(task_set.tasks, len(task_set.tasks)):
                for _ in range(rng.choice((1, 1, 2))):
                    record = run_task(spec, task_set.folder, task)
                yield record

        yield run


def seen_by(config: Config) -> list[str]:
    """The stages that the run's `Shuffled` did."""
    assert isinstance(config.cluster, Shuffled)
    return config.cluster.seen


@contextmanager
def slurm_here(folder: Path) -> Iterator[str]:
    """A Slurm of two nodes on this machine: its configuration, as `SLURM_CONF` names it. Skips where none can be."""
    if shutil.which("slurmctld") is None or os.getuid() != 0:
        pytest.skip("no Slurm can be started here: apt-get install slurm-wlm munge, as root")
    script = ROOT / "scripts" / "slurm_here.sh"
    started = subprocess.run([script, "start", folder], capture_output=True, text=True, check=True)
    try:
        yield started.stdout.strip().partition("=")[2]
    finally:
        subprocess.run([script, "stop", folder], check=True)


def results_of(run: Path) -> dict[str, bytes]:
    """The files of a run's results, less what tells of times and machines."""
    artifacts = run / "artifacts"
    return {
        path.relative_to(artifacts).as_posix(): path.read_bytes()
        for path in sorted(artifacts.rglob("*"))
        if path.is_file()
        and "units" not in path.parts
        and "meta" not in path.name
        and path.suffix != ".log"
        and not path.name.startswith(".lock")
    }


def differing(one: Path, other: Path) -> list[str]:
    """The files in which the results of two runs differ, or that only one of them has."""
    here, there = results_of(one), results_of(other)
    assert here, f"{one} holds no results"
    return sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
