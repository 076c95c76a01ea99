"""Settings of the group `cluster`: the place where units are computed. `fv.cluster` has the clusters, one per file."""

from dataclasses import dataclass
from typing import ClassVar

from fv.config.group import Group


@dataclass
class ClusterConfig(Group):
    """Place where units are computed: this process, or the workers of a cluster, a class with further settings."""

    elsewhere: ClassVar[bool] = False
    """True if other processes compute them."""
