"""Settings of the group `plan`: what a price is told beside the settings of the run. No part of what a run is."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt

from fv.config.group import Group
from fv.errors import ConfigError


@dataclass
class PlanConfig(Group):
    """What a run would cost: of which shape, on what processor, and for how many workers."""

    shape: str | None = None
    """A ready shape of a model that is on no disk, in place of the model's (`fv/pricing/shapes/`); null takes the
    model's own."""
    tflops: Annotated[float, Gt(0)] | None = None
    """TFLOP/s that large matrix products reach; null times passes of the shape here."""
    gb_per_s: Annotated[float, Gt(0)] | None = None
    """GB/s at which weights are read from memory, which small passes wait for; null leaves that out of account."""
    disk_gb_per_s: Annotated[float, Gt(0)] = 1.0
    """GB/s at which weights are read from disk."""
    workers: list[Annotated[int, Ge(1)]] = field(default_factory=lambda: [1, 8, 64])
    """Numbers of workers to tell times of; each has the whole model, and computes units."""
    verified: Annotated[int, Ge(1)] | None = None
    """Heads that a screened run verifies; null estimates it from the number of relations."""

    def validate(self) -> None:
        super().validate()
        if self.gb_per_s is not None and self.tflops is None:
            gb_per_s, tflops = self.called("gb_per_s"), self.called("tflops")
            raise ConfigError(f"{gb_per_s} is of a processor that {tflops} names; give both.")
        if not self.workers:
            raise ConfigError(f"{self.called('workers')}=[] must name a number of workers or more, like [1,8,64].")
