"""Workers: what two of them take beside one process, and how busy many are kept.

python -m benchmarks.cluster ratio       # the demo: two workers with a thread each, one process with two threads
python -m benchmarks.cluster busy        # many workers, from times of units of a shape: timed passes, and a start-up
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.subjects import configured
from fv.config import Config
from fv.pricing.ledger import makespan
from fv.pricing.pricing import Processor, priced
from fv.pricing.stepd import SCREENED
from fv.steps.plan import model_of, workload_of

ENOUGH = 0.85
ALONE = ("model", "tables", "Step6's tables", "summary")
"""What one worker does while the others wait, each with a start-up of its own where workers do not live on (Slurm)."""


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


def units_of(shape: str, n_trials: int) -> tuple[list[list[float]], float]:
    """Seconds of each unit of each stage of an exact run, on one thread here, and of a worker's start-up."""
    trials = [f"data.n_trials_per_q={n_trials}", "data.n_eval_trials_per_q=12", "data.allow_drop=true"]
    vectors = ["injection.fv=all_qids", "eval_scope=in_domain", "compute.threads=1"]
    config: Config = configured(f"plan.shape={shape}", *trials, *vectors)
    torch.set_num_threads(1)
    libraries = time.process_time()
    lm, notes = model_of(config)
    price = priced(workload_of(config, lm), Processor(libraries=libraries), notes)
    assert price.throughput is not None
    stages = [stage for stage in price.stages if stage.only != SCREENED]
    seconds = [[price.throughput.seconds(unit.work, price.shape) for unit in stage.units] for stage in stages]
    return seconds, sum(each or 0.0 for each in price.start_up.values())


def busy(stages: Sequence[Sequence[float]], start_up: float, n_workers: int, alone: float) -> tuple[float, float]:
    """Share of the workers' time that is spent on units, and the hours of it all: every stage begins with a start-up
    and ends when its last worker does, and what one worker does alone takes `alone` seconds beside its start-up."""
    took = sum(start_up + makespan(units, n_workers) for units in stages) + len(ALONE) * (start_up + alone)
    work = sum(map(sum, stages)) + len(ALONE) * alone
    return work / (n_workers * took), took / 3600


def simulate(shape: str, n_trials: int, workers: Sequence[int], alone: float) -> None:
    """Print how busy workers are, and for the most of them the least work that keeps them busy enough."""
    stages, start_up = units_of(shape, n_trials)
    Console().print(
        f"{shape}, {n_trials} trials, 31 relations: {sum(map(len, stages))} units, "
        f"{sum(map(sum, stages)) / 3600:.1f} h on one thread; start-up {start_up:.1f} s"
    )
    for n_workers in workers:
        share, hours = busy(stages, start_up, n_workers, alone)
        print(f"{n_workers} workers: {share:.0%} busy, {hours:.2f} h")
    n_workers, more = max(workers), n_trials
    while more <= 64 * n_trials:
        stages, start_up = units_of(shape, more)
        share, hours = busy(stages, start_up, n_workers, alone)
        if share >= ENOUGH:
            print(f"{n_workers} workers are {share:.0%} busy from {more} trials a relation on ({hours:.2f} h)")
            return
        more = round(1.5 * more)
    print(f"{n_workers} workers: not {ENOUGH:.0%} busy with {more} trials a relation either ({share:.0%})")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["ratio", "busy"])
    parser.add_argument("settings", nargs="*", help="of the demo, such as data.qids=[antonym]")
    parser.add_argument("--shape", default="llama32_1b")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--workers", type=int, nargs="+", default=[8, 32, 256])
    parser.add_argument("--alone", type=float, default=20.0, help="seconds of tables and summaries")
    args = parser.parse_args()
    if args.what == "ratio":
        ratio(args.settings)
    else:
        simulate(args.shape, args.trials, args.workers, args.alone)


if __name__ == "__main__":
    main()
