"""The jobs of a sweep, wherever a launcher runs them: how each ended, and a line for each that failed."""

import json
import logging
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig

from .errors import UserError, traceback_wanted
from .launchers import GROUP, IN_PROCESS

RECORD = "job.json"
UNKNOWN = "no end of it is known: it was killed, or is still at work."


def in_sweep() -> bool:
    """Whether this is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def launched_job() -> int | None:
    """The number of this job where a launcher runs it beside others; None in the command's own process."""
    if not in_sweep() or HydraConfig.get().runtime.choices[GROUP] == IN_PROCESS:
        return None
    return int(HydraConfig.get().job.num)


class RecordJobs(Callback):
    """Lets each job of a sweep leave in its folder how it ended; one that was killed leaves nothing."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        del kwargs
        if not in_sweep():
            return
        if launched_job() is not None and traceback_wanted() and job_return.status == JobStatus.FAILED:
            traceback.print_exception(job_return._return_value)  # it does not travel to the process that names it
        record = {"overrides": list(config.hydra.overrides.task), "error": _error_of(job_return)}
        path = Path(config.hydra.runtime.output_dir) / RECORD
        path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


@contextmanager
def watched_jobs() -> Iterator[list[JobReturn]]:
    """While it lasts, every launcher that Hydra makes names all jobs that failed.

    Hydra names the first one, shows a launcher's own failure as a traceback, and has no hook around a launcher.

    Yields:
        the jobs that ended well, each once its launcher has come to an end.
    """
    plugins = Plugins.instance()
    make = plugins.instantiate_launcher
    done: list[JobReturn] = []

    def make_watched(*, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
        if config.quiet:
            for name in ("hydra", "hydra_plugins"):
                logging.getLogger(name).setLevel(logging.WARNING)
        if config.hydra.launcher._target_.endswith(".SlurmLauncher"):
            from .slurm_queue import ask_queue

            ask_queue()
        launcher = make(hydra_context=hydra_context, task_function=task_function, config=config)
        return WatchedLauncher(launcher, Path(config.hydra.sweep.dir), done)

    with mock.patch.object(plugins, "instantiate_launcher", make_watched):
        yield done


class WatchedLauncher(Launcher):
    """Any launcher, whose jobs' failures end in one error with a line for each.

    Args:
        launcher: the one that runs the jobs.
        folder: of the sweep, with a folder for each job.
        done: takes the jobs that ended well.
    """

    def __init__(self, launcher: Launcher, folder: Path, done: list[JobReturn]) -> None:
        self.launcher = launcher
        self.folder = folder
        self.done = done

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Nothing: the launcher was set up when it was made."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, each given by its overrides; they are numbered from `initial_job_idx`.

        Raises:
            UserError: jobs failed, or the launcher did.
        """
        try:
            jobs = self.launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        except CompactHydraException:
            raise
        except Exception as error:
            found = [self._recorded(initial_job_idx + place) for place in range(len(job_overrides))]
            said = f"The launcher said: {type(error).__name__}: {_first_line(error)}"
            raise _failure(found, job_overrides, initial_job_idx, said) from error
        errors = [_error_of(job) for job in jobs]
        if any(errors):
            first = next(job for job in jobs if job.status == JobStatus.FAILED)
            raise _failure(errors, job_overrides, initial_job_idx) from first._return_value
        self.done += jobs
        return jobs

    def _recorded(self, number: int) -> str | None:
        """The error that a job's record holds; None where it ended well."""
        try:
            return json.loads((self.folder / str(number) / RECORD).read_text(encoding="utf-8"))["error"]
        except FileNotFoundError:
            return UNKNOWN


def _error_of(job: JobReturn) -> str | None:
    """What a job failed of. Its `return_value` would print it, and raise it."""
    return str(job._return_value) if job.status == JobStatus.FAILED else None


def _failure(errors: Sequence[str | None], job_overrides: Sequence[Sequence[str]], first: int, *more: str) -> UserError:
    """All jobs that failed: the number of each, the settings that not all jobs have, and its error."""
    shared = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
    failed = [
        f"#{number} {' '.join(word for word in filter_overrides(own) if word not in shared)}: {error}"
        for number, (own, error) in enumerate(zip(job_overrides, errors, strict=True), first)
        if error is not None
    ]
    count = f"{len(failed)} of {len(job_overrides)} jobs failed; nothing was gathered."
    remedy = "What was finished is kept; the same command goes on from there."
    return UserError("\n".join([count, *failed, *more, remedy]))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
