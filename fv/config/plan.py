"""Settings of the group `plan`: what a price is told beside the settings of the run. No part of what a run is."""

from dataclasses import dataclass, field

from fv.config.checks import check_at_least
from fv.config.group import Group
from fv.errors import ConfigError


@dataclass
class PlanConfig(Group):
    """What a run would cost: of which shape, on what processor, and for how many workers."""

    shape: str | None = None
    """A ready shape of a model that is on no disk, in place of the model's (`fv/pricing/shapes/`); null takes the
    model's own."""
    tflops: float | None = None
    """TFLOP/s that large matrix products reach; null times passes of the shape here."""
    gb_per_s: float | None = None
    """GB/s at which weights are read from memory, which small passes wait for; null leaves that out of account."""
    disk_gb_per_s: float = 1.0
    """GB/s at which weights are read from disk."""
    workers: list[int] = field(default_factory=lambda: [1, 8, 64])
    """Numbers of workers to tell times of; each has the whole model, and computes units."""
    verified: int | None = None
    """Heads that a screened run verifies; null estimates it from the number of relations."""

    def __post_init__(self) -> None:
        for name in ("tflops", "gb_per_s", "disk_gb_per_s"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise ConfigError(f"plan.{name}={value} must be above 0.")
        if self.gb_per_s is not None and self.tflops is None:
            raise ConfigError("plan.gb_per_s is of a processor that plan.tflops names; give both.")
        if not self.workers or min(self.workers) < 1:
            raise ConfigError(f"plan.workers={list(self.workers)} must be numbers of 1 or more, like [1,8,64].")
        check_at_least("plan.verified", self.verified, 1)
