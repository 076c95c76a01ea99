"""The settings of clusters, the project's own and those of installed packages, as Hydra knows them."""

import sys

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fv.cluster import known_clusters
from fv.config import ClusterConfig
from fv.errors import PluginError

NONE = "none"
"""The choice of this process."""


def add_clusters() -> None:
    """Store the settings of every cluster as a choice of the group `cluster`; end with a line where two have one name,
    or settings are of a type that no command line could give."""
    try:
        clusters = known_clusters()
    except PluginError as error:
        sys.exit(f"{error}")
    store = ConfigStore.instance()
    store.store(group="cluster", name=NONE, node=ClusterConfig)
    for name, cluster in clusters.items():
        try:
            OmegaConf.structured(cluster)
        except OmegaConfBaseException as error:
            sys.exit(f"The cluster {name} ({cluster.__module__}:{cluster.__name__}) has unfit settings: {error}")
        store.store(group="cluster", name=name, node=cluster)
