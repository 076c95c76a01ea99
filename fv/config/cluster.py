"""Where the units of a run are computed. What there is beside this process is in `fv.cluster`, one a file."""

from dataclasses import dataclass
from typing import ClassVar

from fv.config.group import Group


@dataclass
class ClusterConfig(Group):
    """Where units are computed: in this process, or by the workers of a `cluster`, which has settings of its own."""

    elsewhere: ClassVar[bool] = False
    """Whether other processes compute them."""
