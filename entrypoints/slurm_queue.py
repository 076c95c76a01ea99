"""Which jobs of a sweep Slurm still knows, by `squeue`. Needs submitit.

submitit asks `sacct`, which many clusters do not have; a job that was killed would then be waited for for ever.
"""

from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob


class QueueWatcher(SlurmInfoWatcher):
    """Takes a job for ended once it is in the queue no more; where the queue cannot be read, nothing has changed."""

    def _make_command(self) -> list[str]:
        return ["squeue", "--me", "--noheader", "--array", "--format=%F_%K"]  # job and array index, which may be N/A

    def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
        """{job: its state}, from what `squeue` printed."""
        text = string if isinstance(string, str) else string.decode()
        queued = {line.removesuffix("_N/A") for line in text.split()}
        return {job: {"State": "RUNNING" if job in queued else "ENDED"} for job in self._registered}


def ask_queue() -> None:
    """Let submitit ask `squeue` from now on, every half a minute at least."""
    SlurmJob.watcher = QueueWatcher(delay_s=30)
