"""Worker processes on this machine."""

import multiprocessing
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fv.cluster.base.cluster import Cluster, RunTasks
from fv.cluster.base.records import RUNNING, Record, read_record
from fv.cluster.base.tasks import Task, TaskSet, WorkerSpec
from fv.cluster.base.worker_process import run_task
from fv.errors import ClusterError

SPAWN = multiprocessing.get_context("spawn")
"""New processes are spawned: a forked one would share locks and threads of torch with this one."""


@dataclass
class Local(Cluster):
    """Processes on this machine, which share its threads and its visible GPUs."""

    def threads(self) -> int:
        return max(1, cores() // self.workers)

    def sharing(self, device: str) -> int:
        n_devices = 1 if device == "cpu" else max(1, len(_visible_devices()))
        return -(-self.workers // n_devices)

    @contextmanager
    def running(self, spec: WorkerSpec) -> Iterator[RunTasks]:
        pool = _Pool(self, spec)
        try:
            yield pool.run
        finally:
            pool.close()


class _Pool:
    """A pool of processes, made again when one of them dies."""

    def __init__(self, settings: Local, spec: WorkerSpec) -> None:
        self.settings, self.spec = settings, spec
        self._executor: ProcessPoolExecutor | None = None

    def run(self, task_set: TaskSet) -> Iterator[Record]:
        left = {task.name: task for task in sorted(task_set.tasks, key=lambda task: -task.cost)}
        deaths: Counter[str] = Counter()
        while left:
            try:
                for record in self._records(task_set.folder, [*left.values()]):
                    del left[record.task]
                    yield record
            except BrokenProcessPool:
                self.close()
                at_hand = [name for name in left if _is_running(task_set.folder, name)]
                deaths.update(at_hand)
                if given_up := [name for name in at_hand if deaths[name] > self.settings.retries]:
                    raise ClusterError(
                        f"A worker died {deaths[given_up[0]]} times during {given_up[0]}: it was killed, or out of "
                        "memory. Finished units are kept; with fewer workers, the memory may be enough."
                    ) from None

    def close(self) -> None:
        """End the processes, and discard unfinished tasks."""
        if self._executor is not None:
            for process in multiprocessing.active_children():
                process.kill()
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def _records(self, folder: Path, tasks: Sequence[Task]) -> Iterator[Record]:
        if self._executor is None:
            self._executor = self._started()
        futures = [self._executor.submit(run_task, self.spec, folder, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()

    def _started(self) -> ProcessPoolExecutor:
        devices = SPAWN.SimpleQueue()
        for own in devices_of_each(_visible_devices(), self.settings.workers):
            devices.put(own)
        return ProcessPoolExecutor(self.settings.workers, SPAWN, _begin, (devices,))


def devices_of_each(visible: Sequence[str], n_workers: int) -> list[list[str]]:
    """The GPUs of each worker: equally many, or one that workers share if there are fewer GPUs than workers."""
    if len(visible) < n_workers:
        return [[visible[i % len(visible)]] if visible else [] for i in range(n_workers)]
    each = len(visible) // n_workers
    return [[*visible[i * each : (i + 1) * each]] for i in range(n_workers)]


def cores() -> int:
    """The number of cores that this process may use; all cores if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _visible_devices() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    if (given := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [device for device in given.split(",") if device.strip()]
    import torch

    return [str(i) for i in range(torch.cuda.device_count())]


def _begin(devices: Any) -> None:
    """Begin a worker's process: take its GPUs, and make it end when its parent ends."""
    own = devices.get()
    if own:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _is_running(folder: Path, task: str) -> bool:
    record = read_record(folder, task)
    return record is not None and record.state == RUNNING
