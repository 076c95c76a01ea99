"""Ray: actors on a running cluster, or on one that is started on this machine."""

import importlib.util
import logging
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from fv.cluster.base.cluster import Cluster, RunTasks
from fv.cluster.base.records import Record
from fv.cluster.base.tasks import TaskSet, WorkerSpec
from fv.cluster.base.worker_process import run_task
from fv.errors import ClusterError

LOOK = 10.0
"""Seconds between checks that all actors still have a place."""
log = logging.getLogger(__name__)


@dataclass
class Ray(Cluster):
    """Ray's actors, each with its CPUs and GPUs."""

    address: str | None = None
    """The cluster: `auto`, or its head's address; null starts one on this machine."""
    cpus: Annotated[int, Ge(1)] = 1
    """CPUs of an actor, which are also its threads."""
    gpus: Annotated[float, Ge(0)] = 0.0
    """GPUs of an actor; a fraction if actors share one."""

    def threads(self) -> int:
        return self.cpus

    @contextmanager
    def running(self, spec: WorkerSpec) -> Iterator[RunTasks]:
        if importlib.util.find_spec("ray") is None:
            raise ClusterError("cluster=ray needs Ray: pip install 'function-vectors[ray]'.")
        import ray

        # Without this, Ray reports every started cluster to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            dashboard = None if self.address else False  # an existing cluster refuses the argument
            ray.init(self.address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # whatever Ray raises where no cluster answers
            raise ClusterError(f"There is no Ray cluster at cluster.address={self.address}: {error}") from error
        actors = _Actors(self, spec)
        try:
            yield actors.run
        finally:
            actors.end()
            ray.shutdown()


class _Actors:
    """A pool of actors: Ray restarts the ones that die, and gives out their tasks again."""

    def __init__(self, settings: Ray, spec: WorkerSpec) -> None:
        self.settings, self.spec = settings, spec
        self._actors: list[Any] = []

    def run(self, task_set: TaskSet) -> Iterator[Record]:
        from ray.exceptions import RayActorError

        left = {task.name: task for task in sorted(task_set.tasks, key=lambda task: -task.cost)}
        losses = 0
        while left:
            pool = self._pool()
            for task in left.values():
                pool.submit(lambda actor, one: actor.run_task.remote(task_set.folder, one), task)
            while pool.has_next():
                try:
                    record = pool.get_next_unordered(timeout=LOOK)
                except TimeoutError:
                    if self._places() < len(self._actors):
                        log.warning("The Ray cluster has become smaller; its actors are started again.")
                        self.end()
                        break
                    continue
                except RayActorError as error:
                    # Ray has retried the task as often as allowed: the actor's node may be gone.
                    losses += 1
                    if losses > self.settings.retries:
                        raise ClusterError(
                            f"Ray's actors died {losses} times more than Ray's own retries made up for: "
                            f"{str(error).splitlines()[0]} Finished units are kept."
                        ) from error
                    log.warning("A Ray actor is lost; all actors are started again.")
                    self.end()
                    time.sleep(LOOK)
                    break
                del left[record.task]
                yield record

    def end(self) -> None:
        """End the actors, and discard unfinished tasks."""
        import ray

        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _pool(self) -> Any:
        """A pool of the actors, which are started if there are none."""
        import ray
        from ray.util import ActorPool

        if not self._actors:
            n_actors = min(self.settings.workers, self._places())
            if not n_actors:
                raise ClusterError(
                    f"The Ray cluster has no room for an actor of cluster.cpus={self.settings.cpus} and "
                    f"cluster.gpus={self.settings.gpus}; it has {_resources()}."
                )
            if n_actors < self.settings.workers:
                log.warning("The Ray cluster has room for %d of %d workers.", n_actors, self.settings.workers)
            options = {"num_cpus": self.settings.cpus, "num_gpus": self.settings.gpus}
            restarts = {"max_restarts": -1, "max_task_retries": self.settings.retries}
            actor = ray.remote(_Actor).options(**options, **restarts)
            self._actors = [actor.remote(self.spec) for _ in range(n_actors)]
        return ActorPool(self._actors)

    def _places(self) -> int:
        """The number of actors that fit on the live nodes if nothing else runs there."""
        import ray

        asked = {"CPU": self.settings.cpus, "GPU": self.settings.gpus}
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        return sum(min(math.floor(node.get(kind, 0) / each) for kind, each in asked.items() if each) for node in nodes)


class _Actor:
    """A worker's process."""

    def __init__(self, spec: WorkerSpec) -> None:
        self.spec = spec

    def run_task(self, folder: Any, task: Any) -> Record:
        return run_task(self.spec, folder, task)


def _resources() -> str:
    import ray

    found = ray.cluster_resources()
    return ", ".join(f"{found.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
