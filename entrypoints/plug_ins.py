"""The settings of plug-ins, the project's own and those of installed packages, as Hydra knows them.

Whatever plugs in is a dataclass of settings. Where two of a kind have one name, or settings are of a type that no
command line could give, the command ends with a line.
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
"""The choice of the analyses that are run unless others are named."""
NONE = "none"
"""The choice of no cluster: this process."""
T = TypeVar("T")


def add_conditions(schema: DictConfig) -> None:
    """Add the settings of every provider to the schema of a `Config`, each under its name."""
    for name, provider in _checked("condition", condition_providers).items():
        schema.evaluation.conditions[name] = provider


def add_analyses() -> None:
    """Store the settings of every analysis as a choice of the group `analysis`, each in a place of its own, so that
    several can be chosen."""
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
    """The plug-ins of a kind, whose settings can be typed; ends the command where that is not so."""
    try:
        found = known()
    except PluginError as error:
        sys.exit(f"{error}")
    for name, own in found.items():
        try:
            OmegaConf.structured(own)
        except OmegaConfBaseException as error:
            sys.exit(f"The {kind} {name} ({own.__module__}:{own.__name__}) has unfit settings: {error}")
    return found
