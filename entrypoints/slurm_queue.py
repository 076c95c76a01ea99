"""Which jobs of a sweep Slurm still knows, by `squeue`. Needs submitit.

submitit asks `sacct`, which many clusters do not have; a job that was killed would then be waited for for ever.
"""

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from fv.cluster.base.slurm_jobs import QUEUE, queued


class QueueWatcher(SlurmInfoWatcher):
    """Takes a job for ended once it is in the queue no more; where the queue cannot be read, nothing has changed."""

    def _make_command(self) -> list[str]:
        return [*QUEUE]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """{job: its state}, from what `squeue` printed."""
        left = queued(string if isinstance(string, str) else string.decode())
        return {job: {"State": "RUNNING" if job in left else "ENDED"} for job in self._registered}


def ask_queue() -> None:
    """Let submitit ask `squeue` from now on, every half a minute at least."""
    SlurmJob.watcher = QueueWatcher(delay_s=30)
