"""What a worker does before its first unit: libraries, weights, self-check."""

from fv.pricing.shape import Shape
from fv.pricing.throughput import Throughput
from fv.pricing.work import Work

SELFCHECK_PASSES, SELFCHECK_TOKENS = 60, 6
"""Passes of the self-check through all blocks, and tokens of each: `tests/pricing` counts them."""


def start_up_of(
    shape: Shape, throughput: Throughput | None, disk_speed: float, libraries: float | None, selfcheck: bool
) -> dict[str, float | None]:
    """{what: seconds}.

    Args:
        shape: the model's.
        throughput: how fast work is done.
        disk_speed: bytes a second at which weights are read.
        libraries: seconds that loading the libraries takes; None where that is not known.
        selfcheck: whether the model is proved.
    """
    check = Work()
    check.run_rows(SELFCHECK_TOKENS, SELFCHECK_PASSES * shape.n_layers)
    check.readouts[1] += SELFCHECK_PASSES
    proving = throughput.seconds(check, shape) if throughput and selfcheck else None
    return {"libraries": libraries, "weights": shape.weight_bytes / disk_speed, "self-check": proving}
