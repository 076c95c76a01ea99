"""Settings of plug-ins, of this project and of installed packages, registered in Hydra.

A plug-in is a dataclass of settings. If two plug-ins of a kind have the same name, or a setting has a type that cannot
be given on a command line, the command ends with one line.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fv.analyses import known_analyses
from fv.cluster import known_clusters
from fv.config import ClusterConfig
from fv.errors import PluginError
from fv.evaluation.conditions import condition_providers

DEFAULT = "default"
"""Choice of the analyses that are run by default."""
NONE = "none"
"""Choice of no cluster: units are computed in this process."""
T = TypeVar("T")


def add_conditions(schema: DictConfig) -> None:
    """Add the settings of every provider to the schema of a `Config`, each under its name."""
    for name, provider in _checked("condition", condition_providers).items():
        schema.evaluation.conditions[name] = provider


def add_analyses() -> None:
    """Store the settings of every analysis as a choice of the group `analysis`; several may be chosen together."""
    store, analyses = ConfigStore.instance(), _checked("analysis", known_analyses)
    for name, analysis in analyses.items():
        store.store(group="analysis", name=name, node=analysis, package=f"analysis.{name}")
    by_default = [name for name, analysis in analyses.items() if analysis.default]
    store.store(group="analysis", name=DEFAULT, node={"defaults": by_default})


def add_clusters() -> None:
    """Store the settings of every cluster as a choice of the group `cluster`."""
    store = ConfigStore.instance()
    store.store(group="cluster", name=NONE, node=ClusterConfig)
    for name, cluster in _checked("cluster", known_clusters).items():
        store.store(group="cluster", name=name, node=cluster)


def _checked(kind: str, known: Callable[[], dict[str, type[T]]]) -> dict[str, type[T]]:
    """The plug-ins of a kind, after a check that Hydra can take their settings; else the command ends."""
    try:
        found = known()
    except PluginError as error:
        sys.exit(f"{error}")
    for name, own in found.items():
        try:
            OmegaConf.structured(own)
        except OmegaConfBaseException as error:
            sys.exit(f"The {kind} {name} ({own.__module__}:{own.__name__}) has impossible settings: {error}")
    return found
