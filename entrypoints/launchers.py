"""Launchers of conf/hydra/launcher/, and their Hydra plugins."""

import importlib.util
from collections.abc import Sequence

from omegaconf import OmegaConf

from fv.cluster.local import cores

IN_PROCESS = "basic"
"""Name of Hydra's own launcher, which runs jobs one after the other in this process."""
PLUGINS = {"processes": "joblib", "slurm": "submitit", "ray_tasks": "ray"}
GROUP = "hydra/launcher"


def missing_plugin(words: Sequence[str]) -> str | None:
    """Message on the missing plugin of the launcher in a command's words; None if nothing is missing."""
    for word in words:
        key, _, choice = word.partition("=")
        if key == GROUP and choice in PLUGINS and not _installed(f"hydra_{PLUGINS[choice]}_launcher"):
            return f"{word} needs hydra-{PLUGINS[choice]}-launcher: pip install 'function-vectors[sweeps]'."
    return None


def _installed(plugin: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{plugin}") is not None
    except ModuleNotFoundError:  # there is no plugin at all
        return False


def cores_of_a_job(threads: int | None) -> int:
    """Number of cores for a launched job of `threads` threads; one if `threads` is None."""
    return threads or 1


def jobs_at_once(threads: int | None) -> int:
    """Number of jobs of `threads` threads that fit on this process's cores, at least one."""
    return max(1, cores() // cores_of_a_job(threads))


def add_resolvers() -> None:
    """Register the functions that the launchers' files refer to."""
    for function in (cores_of_a_job, jobs_at_once):
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)
