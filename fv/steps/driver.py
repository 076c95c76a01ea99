"""Gives the tasks of a run to a cluster, stage after stage, and minds how they went."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fv.cluster import Cluster
from fv.cluster.work.cluster import RunStage
from fv.cluster.work.records import DONE, FAILED, Record, begin_stage, read_record
from fv.cluster.work.stage import Stage, Task, Work
from fv.cluster.work.working import code_digest
from fv.config import Config
from fv.config.checks import AUTO
from fv.errors import ClusterError, ConfigError
from fv.files import digest_of, safe_name
from fv.models.embedded import cache_root
from fv.progress import progress_bar
from fv.runs.locks import run_lock
from fv.runs.paths import RunPaths

WORKER = "fv.steps.worker:Worker"
log = logging.getLogger(__name__)


@dataclass
class Driver:
    """What sees to a run whose units are computed elsewhere. It loads no weights.

    Attributes:
        config: the configuration, as workers get it.
        paths: the run's.
        run_stage: the cluster's workers.
    """

    config: Config
    paths: RunPaths
    run_stage: RunStage

    @property
    def sharing(self) -> int:
        """How many workers share a device's memory, where the size of passes is left to it."""
        cluster = self.config.cluster
        is_left = self.config.compute.max_rows == AUTO
        return cluster.sharing(self.config.compute.device) if is_left and isinstance(cluster, Cluster) else 1

    def run(self, step: str, name: str, tasks: Sequence[Task]) -> dict[str, Any]:
        """Have the tasks of a stage done.

        Returns:
            {name of a task: what its worker said of what it made}.

        Raises:
            ClusterError: tasks failed, or their workers died too often.
        """
        if not tasks:
            return {}
        stage = Stage(step, name, tasks, self.folder(step, name))
        begin_stage(stage, type(self.config.cluster).__name__, time.time())
        started, found = time.monotonic(), list[Record]()
        with progress_bar(f"{step}, {name}", len(tasks)) as (advance, _):
            for record in self.run_stage(stage):
                found.append(record)
                advance(1)
        self._refuse_failed(step, name, len(tasks), [record for record in found if record.state == FAILED])
        hosts = sorted({record.host for record in found})
        seconds = time.monotonic() - started
        log.info("%s, %s: %d tasks on %s in %.0f s", step, name, len(tasks), ", ".join(hosts), seconds)
        return {record.task: record.result for record in found}

    def once(self, step: str, name: str, ask: Mapping[str, Any], made_from: Any) -> Any:
        """What the worker says of one task, from its record where the same was asked before."""
        (task,) = self._asked([Task(name, ask)], made_from)
        known = self._done(step, name, task)
        return self.run(step, name, [task])[task.name] if known is None else known.result

    def missing(self, step: str, name: str, tasks: Sequence[Task], made_from: Any) -> list[Task]:
        """Those tasks, as they are asked of `made_from`, that have not been done so before."""
        return [task for task in self._asked(tasks, made_from) if self._done(step, name, task) is None]

    def _asked(self, tasks: Sequence[Task], made_from: Any) -> list[Task]:
        """Tasks that say what they are asked of."""
        of = digest_of([made_from, code_digest()])
        return [replace(task, ask={**task.ask, "of": of}) for task in tasks]

    def _done(self, step: str, name: str, task: Task) -> Record | None:
        """The record of a task that was done before as it is asked now; None where it was not."""
        record = read_record(self.folder(step, name), task.name)
        is_same = record is not None and record.state == DONE and record.of == digest_of(dict(task.ask))
        return record if is_same else None

    def folder(self, step: str, name: str) -> Path:
        """Where the records of a stage are; those of a tag have a place of their own."""
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
            f"{count}{first.task} on {first.host}: {first.error[0]} (Logs are in {logs}.) What was finished is kept; "
            "the same command goes on from there."
        )


@contextmanager
def driving(config: Config) -> Iterator[Driver]:
    """A driver and its cluster, for as long as the block lasts; a second command of this machine waits for it.

    Raises:
        ClusterError: the cluster is not to be had.
        ConfigError: there is no such cluster.
    """
    cluster, paths = config.cluster, RunPaths.of(config)
    if not isinstance(cluster, Cluster):
        raise ConfigError("cluster=none computes in this process, and has no workers.")
    if cluster.workers < 1:
        raise ConfigError(f"{cluster.called('workers')}={cluster.workers} must be 1 or more.")
    threads = config.compute.threads or cluster.threads()
    # As small as may be: a unit a pass, so that there are enough of them for all workers.
    unit_trials = config.compute.unit_trials or 1
    told = replace(config, compute=replace(config.compute, threads=threads, unit_trials=unit_trials))
    root = paths.root.absolute()
    work = Work(WORKER, told, root, code_digest(), Path.cwd(), {"FV_CACHE_DIR": str(cache_root().absolute())})
    paths.cluster.mkdir(parents=True, exist_ok=True)
    with run_lock(paths.root):
        kind = type(cluster).__name__.lower()
        log.info("%d workers (cluster=%s) compute the units of %s; this process waits.", cluster.workers, kind, root)
        with cluster.running(work) as run_stage:
            yield Driver(told, RunPaths(root, paths.tag), run_stage)
