"""Pricing a workload."""

from collections.abc import Sequence
from dataclasses import dataclass

from fv.pricing.calibration import calibrated
from fv.pricing.disk import disk_of
from fv.pricing.ledger import StagePrice
from fv.pricing.null import null_stage
from fv.pricing.price import Price
from fv.pricing.start_up import start_up_of
from fv.pricing.step6 import grid_stage, held_out_stages
from fv.pricing.stepd import n_verified, stepd_stages
from fv.pricing.throughput import Named, Throughput
from fv.pricing.workload import Workload

GIGA, TERA = 1e9, 1e12
TIMED_HERE = 2**30
"""Bytes of the largest block that is timed here, 1 GB: two of them are made."""


@dataclass(frozen=True)
class Processor:
    """What does the work.

    Attributes:
        tflops: TFLOP/s that large matrix products reach; None times passes of the shape here.
        gb_per_s: GB/s at which weights are read from memory; None leaves that out of account.
        disk_gb_per_s: GB/s at which weights are read from disk.
        workers: numbers of workers to tell times of.
        libraries: seconds that loading the libraries takes; None where that is not known.
    """

    tflops: float | None = None
    gb_per_s: float | None = None
    disk_gb_per_s: float = 1.0
    workers: Sequence[int] = (1,)
    libraries: float | None = None


def priced(load: Workload, processor: Processor, notes: Sequence[str] = (), quick_eval: bool = False) -> Price:
    """The price of a workload.

    Args:
        load: what is to be done.
        processor: what does it.
        notes: what the numbers take for granted already.
        quick_eval: whether StepE runs the grid with the first vector.

    Raises:
        ConfigError: something that the run would refuse, too.
    """
    stages = stages_of(load, quick_eval)
    throughput, more = throughput_of(load, processor, stages)
    speed = processor.disk_gb_per_s * GIGA
    start_up = start_up_of(load.shape, throughput, speed, processor.libraries, load.compute.selfcheck)
    assumed = [*notes, *more, *_assumed(load)]
    return Price(load.shape, stages, start_up, throughput, list(processor.workers), disk_of(load), assumed)


def stages_of(load: Workload, quick_eval: bool = False) -> list[StagePrice]:
    """Every stage of a run, in order."""
    stages = stepd_stages(load)
    if quick_eval:
        overall = [(vector, load.snapshot.qids) for vector, _ in load.vectors[:1]]
        stages.append(grid_stage(load, overall, "StepE"))
    stages.append(grid_stage(load, load.vectors))
    if not load.evaluation.held_out:
        return stages
    null = [null_stage(load)] if load.null_draws else []
    return [*stages, *held_out_stages(load).all, *null]


def throughput_of(
    load: Workload, processor: Processor, stages: Sequence[StagePrice]
) -> tuple[Throughput | None, list[str]]:
    """How fast the work is done, as named or as timed here, and what is to be said of it."""
    shape = load.shape
    if processor.tflops is not None:
        reads = None if processor.gb_per_s is None else processor.gb_per_s * GIGA
        return Named(processor.tflops * TERA, reads), []
    if shape.block_weights * shape.itemsize > TIMED_HERE:
        return None, ["A block of this shape is too large to be timed here: times need a throughput that is named."]
    prompts = stages[0].work
    largest = max(max(stage.work.rows, default=1) for stage in stages)
    return calibrated(load.lm, shape, round(prompts.n_tokens / prompts.n_prompts), largest), []


def _assumed(load: Workload) -> list[str]:
    every = len(load.heads)
    return [
        f"Screened: {n_verified(load)} of {every} heads are verified, once; a wider choice of heads costs more.",
        "Cells and heads that are chosen are spread evenly over the layers.",
    ]
