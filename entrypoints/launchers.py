"""The ready launchers of conf/hydra/launcher/: which plugin each builds on, and whether it is installed."""

import importlib.util
from collections.abc import Sequence

from omegaconf import OmegaConf

from fv.cluster.local import cores

IN_PROCESS = "basic"
"""Hydra's own launcher: one job after the other, in this process."""
PLUGINS = {"processes": "joblib", "slurm": "submitit", "ray_tasks": "ray"}
GROUP = "hydra/launcher"


def missing_plugin(words: Sequence[str]) -> str | None:
    """What to install for the launcher that a command's words choose; None where nothing is missing."""
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
    """How many cores a launched job of so many threads is given; None, torch's own default, is one."""
    return threads or 1


def jobs_at_once(threads: int | None) -> int:
    """How many jobs of so many threads the cores take that this process may use; one at least."""
    return max(1, cores() // cores_of_a_job(threads))


def add_resolvers() -> None:
    """Let the launchers' files refer to them."""
    for function in (cores_of_a_job, jobs_at_once):
        OmegaConf.register_new_resolver(function.__name__, function, replace=True)
