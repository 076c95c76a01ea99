"""Settings of the group `plan`: further settings of a price. They are not part of a run's identity."""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt

from fv.config.group import Group
from fv.errors import ConfigError


@dataclass
class PlanConfig(Group):
    """Price of a run: the model's shape, the processor, and the workers."""

    shape: str | None = None
    """Ready shape to price in place of the model's, which needs no files of a model (`fv/pricing/shapes/`); null means
    the model's own."""
    tflops: Annotated[float, Gt(0)] | None = None
    """TFLOP/s of large matrix products; null means that passes are timed on this machine."""
    gb_per_s: Annotated[float, Gt(0)] | None = None
    """GB/s at which weights are read from memory, which limits small passes; null ignores this."""
    disk_gb_per_s: Annotated[float, Gt(0)] = 1.0
    """GB/s at which weights are read from disk."""
    workers: list[Annotated[int, Ge(1)]] = field(default_factory=lambda: [1, 8, 64])
    """Numbers of workers to estimate times for; each worker has the whole model."""
    verified: Annotated[int, Ge(1)] | None = None
    """Heads that a screened run verifies; null estimates it from the number of relations."""

    def validate(self) -> None:
        super().validate()
        if self.gb_per_s is not None and self.tflops is None:
            gb_per_s, tflops = self.called("gb_per_s"), self.called("tflops")
            raise ConfigError(f"{gb_per_s} belongs to a processor that {tflops} describes; give both.")
        if not self.workers:
            raise ConfigError(f"{self.called('workers')}=[] must name at least one number of workers, like [1,8,64].")
