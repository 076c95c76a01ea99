"""Slurm's queue, read by `squeue` to find the jobs of a sweep that have ended. Needs submitit.

submitit itself calls `sacct`, which many clusters do not have; it would then wait for a killed job for ever.
"""

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

from fv.cluster.base.slurm_jobs import QUEUE, queued


class QueueWatcher(SlurmInfoWatcher):
    """Counts a job as ended when it has left the queue; if the queue cannot be read, it assumes no change."""

    def _make_command(self) -> list[str]:
        return [*QUEUE]

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """Parse the output of `squeue`: {job: its state}."""
        left = queued(string if isinstance(string, str) else string.decode())
        return {job: {"State": "RUNNING" if job in left else "ENDED"} for job in self._registered}


def ask_queue() -> None:
    """Let submitit call `squeue` from now on, at intervals of at least half a minute."""
    SlurmJob.watcher = QueueWatcher(delay_s=30)
