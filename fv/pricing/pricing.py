"""Pricing of a workload on a processor."""

from collections.abc import Sequence
from dataclasses import dataclass

from fv.pricing.baselines import baseline_stages
from fv.pricing.calibration import calibrated
from fv.pricing.disk import disk_of
from fv.pricing.evaluation import evaluation_stages, grid_stages
from fv.pricing.ledger import StagePrice
from fv.pricing.null import null_stage
from fv.pricing.operations import Operations
from fv.pricing.price import Price
from fv.pricing.shape import Shape
from fv.pricing.stepd import n_verified, stepd_stages
from fv.pricing.throughput import GivenThroughput, Throughput
from fv.pricing.workload import Workload

GIGA, TERA = 1e9, 1e12
TIMED_HERE = 2**30
"""Bytes of the largest block that is timed on this machine, 1 GB; two of them are built."""
SELFCHECK_PASSES, SELFCHECK_TOKENS = 77, 6
"""Number of the self-check's passes through all blocks, and tokens per pass; `tests/pricing` counts them."""


@dataclass(frozen=True)
class Processor:
    """Processor that a run is priced for.

    Attributes:
        tflops: TFLOP/s of large matrix products; None to time passes of the shape on this machine.
        gb_per_s: GB/s at which weights are read from memory; None to ignore this.
        disk_gb_per_s: GB/s at which weights are read from disk.
        workers: numbers of workers to give times for.
        libraries: seconds for loading the libraries; None if not known.
    """

    tflops: float | None = None
    gb_per_s: float | None = None
    disk_gb_per_s: float = 1.0
    workers: Sequence[int] = (1,)
    libraries: float | None = None


def priced(load: Workload, processor: Processor, notes: Sequence[str] = (), quick_eval: bool = False) -> Price:
    """Price a workload.

    Args:
        load: the workload.
        processor: the processor that runs it.
        notes: assumptions made so far.
        quick_eval: whether StepE runs the grid with the first vector.

    Raises:
        ConfigError: the run itself would refuse the settings.
    """
    stages = stages_of(load, quick_eval)
    throughput, more = throughput_of(load, processor, stages)
    speed = processor.disk_gb_per_s * GIGA
    start_up = start_up_of(load.shape, throughput, speed, processor.libraries, load.compute.selfcheck)
    assumed = [*notes, *more, *_assumed(load)]
    return Price(load.shape, stages, start_up, throughput, list(processor.workers), disk_of(load), assumed)


def stages_of(load: Workload, quick_eval: bool = False) -> list[StagePrice]:
    """Price every stage of a run, in order."""
    stages = stepd_stages(load)
    if quick_eval:
        overall = [(vector, load.snapshot.qids) for vector, _ in load.vectors[:1]]
        stages += grid_stages(load, overall, "StepE")
    null = [null_stage(load)] if load.null_draws and load.evaluation.held_out else []
    return [*stages, *evaluation_stages(load), *null, *baseline_stages(load)]


def throughput_of(
    load: Workload, processor: Processor, stages: Sequence[StagePrice]
) -> tuple[Throughput | None, list[str]]:
    """Throughput of the processor, as given or as timed on this machine, and notes on it."""
    shape = load.shape
    if processor.tflops is not None:
        reads = None if processor.gb_per_s is None else processor.gb_per_s * GIGA
        return GivenThroughput(processor.tflops * TERA, reads), []
    if shape.block_weights * shape.itemsize > TIMED_HERE:
        return None, ["A block of this shape is too large to time here: give the throughput to get times."]
    prompts = stages[0].work
    largest = max(max(stage.work.rows, default=1) for stage in stages)
    return calibrated(load.lm, shape, round(prompts.n_tokens / prompts.n_prompts), largest), []


def start_up_of(
    shape: Shape, throughput: Throughput | None, disk_speed: float, libraries: float | None, selfcheck: bool
) -> dict[str, float | None]:
    """Time of a worker before its first unit: {part: seconds}, for libraries, weights and self-check.

    Args:
        shape: the model's shape.
        throughput: the processor's throughput.
        disk_speed: bytes per second at which weights are read.
        libraries: seconds for loading the libraries; None if not known.
        selfcheck: whether the self-check runs.
    """
    check = Operations()
    check.run_rows(SELFCHECK_TOKENS, SELFCHECK_PASSES * shape.n_layers)
    check.readouts[1] += SELFCHECK_PASSES
    proving = throughput.seconds(check, shape) if throughput and selfcheck else None
    return {"libraries": libraries, "weights": shape.weight_bytes / disk_speed, "self-check": proving}


def _assumed(load: Workload) -> list[str]:
    every = len(load.heads)
    tried = "Options within the budget of harm are assumed to be found by chance, and trainings to last to their end."
    return [
        *([tried] if load.compared else []),
        f"Screened: {n_verified(load)} of {every} heads are verified, in one round; further rounds cost more.",
        "Chosen cells and heads are assumed to be spread evenly over the layers.",
    ]
