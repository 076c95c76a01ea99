"""What a cluster is: settings, and workers that do the tasks of stages."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar

from fv.cluster.base.records import Record
from fv.cluster.base.tasks import TaskSet, WorkerSpec
from fv.config.cluster import ClusterConfig

RunTasks = Callable[[TaskSet], Iterator[Record]]
"""Does the tasks of a stage, and yields the record of each as it ends, done or failed."""


class StillAtWork(Exception):  # noqa: N818 - it is no error
    """Workers go on without this process; says which, and how to go on from there."""


@dataclass
class Cluster(ClusterConfig):
    """Workers elsewhere; the fields are its settings, each with a default.

    Who computes what, where, and what happens when a worker dies is its business. Tasks are idempotent, and a task that
    was never heard of again may be done by another worker.
    """

    elsewhere: ClassVar[bool] = True

    workers: int = 2
    """Workers, each with a model of its own."""
    retries: int = 3
    """How often a task is given to another worker when the one that had it died."""

    def threads(self) -> int:
        """CPU threads that each worker has, where settings do not say."""
        raise NotImplementedError

    def sharing(self, device: str) -> int:
        """How many workers share the memory of a device such as `cpu` or `cuda`."""
        return 1

    def running(self, spec: WorkerSpec) -> AbstractContextManager[RunTasks]:
        """Workers, for as long as the block lasts.

        Raises:
            ClusterError: what they need is not there, or a task's workers died too often.
        """
        raise NotImplementedError
