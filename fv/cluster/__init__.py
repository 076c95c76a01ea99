"""Clusters: workers that compute the units of a run; one cluster per file.

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.clusters"]
    kubernetes = "my_package.kubernetes:Kubernetes"

All clusters share `fv.cluster.base`: the tasks that they are given, and the worker that does them.
"""

import functools

from fv.cluster.base.cluster import Cluster
from fv.registry import plugged_in

__all__ = ["Cluster", "known_clusters"]
GROUP = "function_vectors.clusters"
"""The group of entry points by which installed packages add clusters."""


@functools.cache
def known_clusters() -> dict[str, type[Cluster]]:
    """All clusters: {name: class}, sorted by name.

    Raises:
        PluginError: two have the same name.
    """
    return plugged_in(Cluster, __name__, GROUP)
