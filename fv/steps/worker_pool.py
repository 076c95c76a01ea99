"""Workers of a run: one runs its steps until units are missing, all compute these units, and so on."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from fv.cluster import Cluster
from fv.cluster.base.cluster import RunTasks
from fv.cluster.base.records import DONE, FAILED, Record, begin_stage, read_record
from fv.cluster.base.tasks import Task, TaskSet, WorkerSpec
from fv.cluster.base.worker_process import code_digest
from fv.config import Config
from fv.errors import ClusterError, ConfigError
from fv.files import digest_of, safe_name
from fv.models.gguf import cache_root
from fv.models.loading import files_as_they_are
from fv.progress import progress_bar
from fv.runs.locks import run_lock
from fv.runs.paths import RunPaths
from fv.work.driver import Unfinished

WORKER = "fv.steps.worker:Worker"
ADVANCE = ("Run", "next units")
"""Step and stage of the task of running steps, as records name them."""
log = logging.getLogger(__name__)


@dataclass
class WorkerPool:
    """The workers of a run. This process loads no weights.

    Attributes:
        config: the workers' configuration.
        paths: the paths of the run.
        run_tasks: gives tasks to the cluster's workers.
    """

    config: Config
    paths: RunPaths
    run_tasks: RunTasks

    def run_steps(self, steps: Mapping[str, bool]) -> None:
        """Run steps to their end.

        Args:
            steps: {step, or name of an analysis: True to make it again even if it is complete}.

        Raises:
            ClusterError: tasks failed, their workers died too often, or the units that they computed are not found.
        """
        before: list[str] = []
        while missing := self._advanced(steps):
            keys = [unit["key"] for unit in missing["units"]]
            if keys == before:
                raise ClusterError(
                    f"Workers computed {missing['title']}, {missing['stage']}, and {self.paths.units} lacks it: they "
                    "see another folder, or other weights."
                )
            before = keys
            self.run(missing["title"], missing["stage"], tasks_of(missing))
            # Steps that have begun again must not be cleared a second time.
            begun = [*steps].index(missing["step"])
            steps = {step: overwrite and i > begun for i, (step, overwrite) in enumerate(steps.items())}

    def _advanced(self, steps: Mapping[str, bool]) -> Unfinished | None:
        """Let one worker run steps until units are missing.

        Returns:
            the step that cannot continue, and its missing units; None at the end of all steps. The recorded answer to
            the same request is reused if all its units are still missing.
        """
        made_with = digest_of([self.config.resolved(), files_as_they_are(self.config.model), code_digest()])
        task = Task("advance", {"do": "advance", "steps": dict(steps), "made_with": made_with})
        record = read_record(self.folder(*ADVANCE), task.name)
        if record and record.state == DONE and record.of == digest_of(dict(task.ask)) and record.result:
            there = {path.stem.rpartition("-")[2] for path in self.paths.units.glob("*.npz")}
            if there.isdisjoint(unit["key"] for unit in record.result["units"]):
                return record.result
        return self.run(*ADVANCE, [task])[task.name]

    def run(self, step: str, name: str, tasks: Sequence[Task]) -> Mapping[str, Any]:
        """Let workers do the tasks of a stage.

        Returns:
            {name of a task: its result}.

        Raises:
            ClusterError: tasks failed, or their workers died too often.
        """
        given = TaskSet(step, name, tasks, self.folder(step, name))
        begin_stage(given, type(self.config.cluster).__name__, time.time())
        started, found = time.monotonic(), list[Record]()
        with progress_bar(f"{step}, {name}", len(tasks)) as (advance, _):
            for record in self.run_tasks(given):
                found.append(record)
                advance(1)
        self._refuse_failed(step, name, len(tasks), [record for record in found if record.state == FAILED])
        hosts = sorted({record.host for record in found})
        seconds = time.monotonic() - started
        log.info("%s, %s: %d tasks on %s in %.0f s", step, name, len(tasks), ", ".join(hosts), seconds)
        return {record.task: record.result for record in found}

    def folder(self, step: str, name: str) -> Path:
        """The folder of a stage's records; each tag has its own."""
        tag = self.paths.tag if step != "StepD" else None
        return self.paths.stages / safe_name("-".join([step, name, *([tag] if tag else [])]).replace(" ", "_"))

    def _refuse_failed(self, step: str, name: str, n_tasks: int, failed: Sequence[Record]) -> None:
        if not failed:
            return
        for record in failed[1:4]:
            log.error("%s failed on %s: %s", record.task, record.host, record.error[0])
        first, logs = failed[0], self.paths.logs / "workers"
        count = f"{len(failed)} of {n_tasks} tasks failed ({step}, {name}). " if n_tasks > 1 else ""
        raise ClusterError(
            f"{count}{first.task} on {first.host}: {first.error[0]} (Logs are in {logs}.) Finished work is kept; "
            "the same command continues from there."
        )


@contextmanager
def worker_pool(config: Config) -> Iterator[WorkerPool]:
    """Run the workers of a run while the block lasts; a second command on this machine waits.

    Raises:
        ClusterError: the cluster is not available.
        ConfigError: the settings name no cluster.
    """
    cluster, paths = config.cluster, RunPaths.of(config)
    if not isinstance(cluster, Cluster):
        raise ConfigError("cluster=none computes in this process, and has no workers.")
    threads = config.compute.threads or cluster.threads()
    # Units are as small as possible, one per pass, so that there are enough for all workers.
    unit_trials = config.compute.unit_trials or 1
    settings = replace(config, compute=replace(config.compute, threads=threads, unit_trials=unit_trials))
    root = paths.root.absolute()
    spec = WorkerSpec(WORKER, settings, root, code_digest(), Path.cwd(), {"FV_CACHE_DIR": str(cache_root().absolute())})
    paths.cluster.mkdir(parents=True, exist_ok=True)
    with run_lock(paths.root):
        kind = type(cluster).__name__.lower()
        log.info("%d workers (cluster=%s) compute the units of %s; this process waits.", cluster.workers, kind, root)
        with cluster.running(spec) as run_tasks:
            yield WorkerPool(settings, RunPaths(root, paths.tag), run_tasks)


def tasks_of(missing: Unfinished) -> list[Task]:
    """Make the tasks that compute missing units; a task holds as many units of a job as the job computes at once."""
    common = {"do": "compute", **{name: missing[name] for name in ("title", "about", "number")}}
    found = []
    for _, own in groupby(missing["units"], lambda unit: unit["job"]):
        units = [*own]
        at_once = units[0]["at_once"]
        for part in (units[start : start + at_once] for start in range(0, len(units), at_once)):
            kind, relation, place = part[0]["unit"]
            shown = "-".join(name for name in (kind, relation, place) if name)
            ask = {**common, "units": [[unit["job"], unit["place"], unit["key"]] for unit in part]}
            found.append(Task(f"{shown}-{part[0]['key'][:8]}", ask, relation, sum(unit["cost"] for unit in part)))
    return found
