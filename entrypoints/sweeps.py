"""Jobs of a sweep with any launcher: their places, their results, and one line per failed job."""

import json
import logging
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, open_dict

from fv.collector import loaded
from fv.config import Config
from fv.errors import FvError

from .errors import UserError, traceback_wanted, user_errors
from .launchers import GROUP, IN_PROCESS
from .places import PLACED, key_of, placed, varying, words_of

Placing = Callable[[Sequence[Sequence[str]]], Sequence[Sequence[str]]]
"""Function that adds their places to the overrides of jobs."""
RECORD = "job.json"
UNKNOWN = "its end is not known: it was killed, or is still running."


def in_sweep() -> bool:
    """True if this is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def launched_job() -> int | None:
    """The number of this job, if a launcher runs it in a process of its own; None in the command's process."""
    if not in_sweep() or HydraConfig.get().runtime.choices[GROUP] == IN_PROCESS:
        return None
    return int(HydraConfig.get().job.num)


class RecordJobs(Callback):
    """Records how each job of a sweep ended, in the job's folder; a killed job leaves no record."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        del kwargs
        if not in_sweep():
            return
        if launched_job() is not None and traceback_wanted() and job_return.status == JobStatus.FAILED:
            traceback.print_exception(job_return._return_value)  # the traceback is not sent to the command's process
        record = {"overrides": list(config.hydra.overrides.task), "error": _error_of(job_return)}
        path = Path(config.hydra.runtime.output_dir) / RECORD
        path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


@contextmanager
def watched_jobs(words: Sequence[str], read: Callable[[DictConfig], Config]) -> Iterator[list[JobReturn]]:
    """Make every launcher in this context give each job a place of its own, and name all failed jobs.

    Hydra itself names only the first failed job, shows a launcher's own failure as a traceback, and has no hook around
    a launcher.

    Args:
        words: the words of the command, without its name.
        read: turns a job's configuration into a checked one.

    Yields:
        a list, to which the jobs of each launcher are added when all of them have ended without error.
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
        return WatchedLauncher(
            launcher, Path(config.hydra.sweep.dir), done, _placing(hydra_context, config, words, read)
        )

    with mock.patch.object(plugins, "instantiate_launcher", make_watched):
        yield done


def _placing(
    context: HydraContext, config: DictConfig, words: Sequence[str], read: Callable[[DictConfig], Config]
) -> Placing:
    """Make the function that gives the jobs of a command their places.

    Args:
        context: Hydra's context.
        config: the configuration of the whole command.
        words: the words of the command.
        read: turns a job's configuration into a checked one.
    """
    command, sweeper = config.hydra.job.config_name, config.hydra.sweeper
    swept = None
    if sweeper.get("max_batch_size") or not sweeper._target_.endswith(".BasicSweeper"):
        # Not all jobs are known yet, so they cannot be compared, and every swept key gets places.
        parsed = OverridesParser.create().parse_overrides([word for word in words if not word.startswith("-")])
        swept = [key_of(each.get_key_element()) for each in parsed if each.is_sweep_override()]
        swept += map(key_of, sweeper.get("params") or ())

    def placing(jobs: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
        if command not in PLACED:
            return jobs
        differing = varying(words_of(jobs)) if swept is None else swept
        configs = [_read_job(context, config, job, read, differing) for job in jobs]
        places, configs = placed(jobs, configs, swept)
        if command in ("pipeline", "step6"):
            scored = command == "step6" and any(key.startswith("score.") for key in differing)
            loaded("fv.steps.gather").refuse_unfit_sweep(configs, own_vectors=scored)
        return places

    return placing


def _read_job(
    context: HydraContext,
    config: DictConfig,
    job: Sequence[str],
    read: Callable[[DictConfig], Config],
    differing: Collection[str],
) -> Config:
    """Compose and check the configuration of a job.

    Raises:
        UserError: it is not possible; the message has the job's own overrides.
    """
    own = context.config_loader.load_sweep_config(config, list(job))
    with open_dict(own):
        del own["hydra"]
    try:
        return read(own)
    except (FvError, UserError) as error:
        words = " ".join(word for word in job if key_of(word) in differing)
        raise UserError(f"No job was begun, because one of them is not possible: {words}\n{error}") from error


class WatchedLauncher(Launcher):
    """A launcher that reports all failed jobs in one error, with one line per job.

    Args:
        launcher: the launcher that runs the jobs.
        folder: the folder of the sweep, with one folder per job.
        done: a list that the jobs are added to when all have ended without error.
        placing: adds their places to the overrides of jobs.
    """

    def __init__(self, launcher: Launcher, folder: Path, done: list[JobReturn], placing: Placing) -> None:
        self.launcher = launcher
        self.folder = folder
        self.done = done
        self.placing = placing

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing: the launcher was set up when it was made."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs, each given by its overrides; they are numbered from `initial_job_idx`.

        Raises:
            UserError: results of the jobs could not be gathered, jobs failed, or the launcher itself failed.
        """
        with user_errors():
            places = self.placing(job_overrides)
        try:
            jobs = self.launcher.launch(places, initial_job_idx=initial_job_idx)
        except CompactHydraException:
            raise
        except Exception as error:
            found = [self._recorded(initial_job_idx + place) for place in range(len(job_overrides))]
            message = f"The launcher failed: {type(error).__name__}: {_first_line(error)}"
            raise _failure(found, job_overrides, initial_job_idx, message) from error
        errors = [_error_of(job) for job in jobs]
        if any(errors):
            first = next(job for job in jobs if job.status == JobStatus.FAILED)
            raise _failure(errors, job_overrides, initial_job_idx) from first._return_value
        self.done += jobs
        return jobs

    def _recorded(self, number: int) -> str | None:
        """The error in a job's record; None if the job ended without error."""
        try:
            return json.loads((self.folder / str(number) / RECORD).read_text(encoding="utf-8"))["error"]
        except FileNotFoundError:
            return UNKNOWN


def _error_of(job: JobReturn) -> str | None:
    """The error of a job; None if it ended without error. (`return_value` would print and raise the error.)"""
    return str(job._return_value) if job.status == JobStatus.FAILED else None


def _failure(errors: Sequence[str | None], job_overrides: Sequence[Sequence[str]], first: int, *more: str) -> UserError:
    """Make the error of failed jobs: one line per job, with its number, the overrides that not all jobs have, and its
    error."""
    shared = set.intersection(*map(set, job_overrides)) if len(job_overrides) > 1 else set()
    failed = [
        f"#{number} {' '.join(word for word in filter_overrides(own) if word not in shared)}: {error}"
        for number, (own, error) in enumerate(zip(job_overrides, errors, strict=True), first)
        if error is not None
    ]
    count = f"{len(failed)} of {len(job_overrides)} jobs failed; nothing was gathered."
    remedy = "Finished work is kept; the same command continues from there."
    return UserError("\n".join([count, *failed, *more, remedy]))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")
