"""The base class of clusters: settings, and workers that do tasks."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from fv.cluster.base.records import Record
from fv.cluster.base.tasks import TaskSet, WorkerSpec
from fv.config.cluster import ClusterConfig

RunTasks = Callable[[TaskSet], Iterator[Record]]
"""A function that does tasks, and yields the record of each as it ends, done or failed."""


class StillAtWork(Exception):  # noqa: N818 - it is no error
    """Workers go on without this process; says which jobs, and how to go on from there."""


@dataclass
class Cluster(ClusterConfig):
    """Workers elsewhere; the fields are its settings, each with a default.

    A cluster decides which worker does a task, where, and what happens when a worker dies. Tasks are idempotent: if a
    worker is lost, another one may do its task.
    """

    elsewhere: ClassVar[bool] = True

    workers: Annotated[int, Ge(1)] = 2
    """Workers, each with a model of its own."""
    retries: Annotated[int, Ge(0)] = 3
    """Number of times that a task is given to another worker after its worker died."""

    def threads(self) -> int:
        """CPU threads of each worker, if settings do not say."""
        raise NotImplementedError

    def sharing(self, device: str) -> int:
        """The number of workers that share the memory of a device such as `cpu` or `cuda`."""
        return 1

    def running(self, spec: WorkerSpec) -> AbstractContextManager[RunTasks]:
        """Run workers for as long as the block lasts.

        Raises:
            ClusterError: something that they need is missing, or a task's workers died too often.
        """
        raise NotImplementedError
