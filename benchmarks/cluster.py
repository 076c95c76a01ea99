"""Measure workers: the time of two workers relative to one process, and the share of time that many workers are busy.

python -m benchmarks.cluster ratio       # the demo: two workers with one thread each, one process with two threads
python -m benchmarks.cluster busy        # many workers, simulated from timed passes of a shape and a start-up
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.subjects import configured
from fv.dealing import makespan
from fv.pricing.pricing import Processor, priced
from fv.pricing.stepd import SCREENED
from fv.steps.plan import model_of, workload_of

ENOUGH = 0.85
ALONE = {"tables": 18.0, "Step6's tables": 5.5, "summary": 8.0}
"""Seconds of one worker's work while the others wait (`fv.steps.distributed`), without the model's self-check.

They were measured in a run of 31 relations and 50 trials on one core of an AMD EPYC, with a narrow model of 16 layers x
32 heads: they depend on the number of heads, and not on their width."""
LIBRARIES = "from fv.collector import loaded; loaded('fv.steps.worker')"
"""Code that a worker's process runs first."""
DISK = 2.0
"""GB/s at which float32 weights are read from files in bfloat16, like those of the shape, which are read at 1 GB/s."""


class Units(NamedTuple):
    """The seconds that the parts of a run take a worker.

    Attributes:
        stages: seconds of each task of each stage.
        start_up: seconds of a worker's start-up, before its first task.
        proof: seconds of the self-check, once per run.
    """

    stages: list[list[float]]
    start_up: float
    proof: float


def ratio(words: Sequence[str]) -> None:
    """Time the demo both ways, one after the other."""
    folder = Path(tempfile.mkdtemp(prefix="function-vectors-cluster-"))
    ways = {
        "one process, two threads": ["compute.threads=2"],
        "two workers, one thread each": ["compute.threads=1", "cluster=local", "cluster.workers=2"],
    }
    taken = {}
    try:
        for number, (way, more) in enumerate(ways.items()):
            command = [sys.executable, "-m", "entrypoints.pipeline", "experiment=demo", f"results_dir={folder}"]
            start = time.perf_counter()
            subprocess.run([*command, f"run_id=r{number}", *more, *words], check=True, stdout=subprocess.DEVNULL)
            taken[way] = time.perf_counter() - start
            print(f"{way}: {taken[way]:.1f} s")
    finally:
        shutil.rmtree(folder)
    one, two = taken.values()
    print(f"two workers / one process: {two / one:.3f}")


def units_of(shape: str, n_trials: int) -> Units:
    """Predict the seconds of an exact run of all relations, on one thread of this machine."""
    trials = [f"data.n_trials_per_q={n_trials}", "data.n_eval_trials_per_q=14"]
    vectors = ["injection.fv=all_qids", "eval_scope=in_domain", "compute.threads=1"]
    config = configured(f"plan.shape={shape}", *trials, *vectors)
    torch.set_num_threads(1)
    lm, notes = model_of(config.plan, config.model, config.compute)
    processor = Processor(libraries=seconds_of_libraries(), disk_gb_per_s=DISK)
    price = priced(workload_of(config, lm), processor, notes)
    speed = price.throughput
    assert speed is not None
    seconds = {
        stage.name: [speed.seconds(unit.work, price.shape) for unit in stage.units]
        for stage in price.stages
        if stage.only != SCREENED
    }
    clean, zero_shot, effects, grid, tests, choice, cost = seconds.values()
    # A task of the test trials makes its own choice of cells.
    tests = [*map(sum, zip(tests, choice, strict=True))]
    before = {what: each or 0.0 for what, each in price.start_up.items()}
    proof = before.pop("self-check")
    return Units([[*clean, *zero_shot], effects, grid, tests, cost], sum(before.values()), proof)


def seconds_of_libraries() -> float:
    """CPU seconds that a worker takes to load its libraries."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def busy(units: Units, n_workers: int, stays: bool) -> tuple[float, float]:
    """Compute the share of the workers' time that is spent on units, and the hours of the run.

    Args:
        units: the seconds of the run.
        n_workers: the number of workers.
        stays: True if workers stay from stage to stage, as Ray's do; Slurm's start up at each stage.
    """
    # Before each stage, and at the end, one worker runs the steps.
    starts = 1 if stays else 2 * len(units.stages) + 1
    took = sum(makespan(stage, n_workers) for stage in units.stages)
    took += starts * units.start_up + units.proof + sum(ALONE.values())
    return sum(map(sum, units.stages)) / (n_workers * took), took / 3600


def simulate(shape: str, n_trials: int, workers: Sequence[int]) -> None:
    """Print how busy workers are, and the least work that keeps the largest number of them busy enough."""
    units = units_of(shape, n_trials)
    total = sum(map(sum, units.stages)) / 3600
    print(
        f"{shape}, {n_trials} trials, 31 relations: {sum(map(len, units.stages))} tasks, {total:.1f} h on one thread;"
    )
    alone = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in ALONE.items())
    print(f"start-up {units.start_up:.1f} s, self-check {units.proof:.1f} s; by one worker alone: {alone}")
    for stays, kind in ((False, "that start up at each stage (Slurm)"), (True, "that live on (Ray, local)")):
        for n_workers in workers:
            share, hours = busy(units, n_workers, stays)
            print(f"{n_workers} workers {kind}: {share:.1%} busy, {hours:.2f} h")
        print(least(units, n_trials, max(workers), stays))


def least(units: Units, n_trials: int, n_workers: int, stays: bool) -> str:
    """Find the least work, in trials per relation, that keeps so many workers busy enough; trials add to StepD only."""
    prompts, effects, *others = units.stages
    for times in range(1, 500):
        more = units._replace(stages=[prompts * times, effects * times, *others])
        share, hours = busy(more, n_workers, stays)
        if share >= ENOUGH:
            return (
                f"{n_workers} workers are {share:.0%} busy with {n_trials * times} trials per relation ({hours:.2f} h)"
            )
    return f"{n_workers} workers are never {ENOUGH:.0%} busy."


def main() -> None:
    """Measure or simulate, as requested."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ratio", "busy"])
    parser.add_argument("settings", nargs="*", help="settings of the demo, such as data.qids=[antonym]")
    parser.add_argument("--shape", default="llama32_1b")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 32, 256])
    args = parser.parse_args()
    if args.what == "ratio":
        ratio(args.settings)
    else:
        simulate(args.shape, args.trials, args.workers)


if __name__ == "__main__":
    main()
