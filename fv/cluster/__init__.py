"""Clusters: who computes the units of a run, one a file.

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.clusters"]
    kubernetes = "my_package.kubernetes:Kubernetes"

What all clusters share is in `fv.cluster.base`: what they are given to do, and what a worker does with it.
"""

import functools

from fv.cluster.base.cluster import Cluster
from fv.registry import plugged_in

__all__ = ["Cluster", "known_clusters"]
GROUP = "function_vectors.clusters"
"""The entry points of installed packages."""


@functools.cache
def known_clusters() -> dict[str, type[Cluster]]:
    """All clusters: {name: class}, by name.

    Raises:
        PluginError: two go by one name.
    """
    return plugged_in(Cluster, __name__, GROUP)
