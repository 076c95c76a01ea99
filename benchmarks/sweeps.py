"""Measure the sweeps: `make bench`, or `python -m benchmarks.sweeps --help`.

Everything is measured in one process on one machine, so ratios can be compared where seconds cannot. The naive side
is sampled: some heads or cells are timed and scaled to all of them, and the table says so.
"""

import argparse
import platform
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.flops import cie_flops, injection_flops
from benchmarks.subjects import gpt2_shape, prompts, smollm2
from fv.artifacts import write_json
from fv.heads import heads_to_sweep
from fv.hooks import edit_head_outputs
from fv.models.language_model import LanguageModel
from fv.naive import NaiveSweep
from fv.shared_prefix import SharedPrefixSweep
from fv.sweep import Cell, Head, Prompt

RESULTS = Path("results_fv") / "bench.json"
SAMPLED_HEADS = 10
SAMPLED_CELLS = 10


def seconds(work: Callable[[], Any], repeats: int = 3) -> float:
    """The shortest of `repeats` timings: the one least disturbed."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def sgemm_peak() -> float:
    """Matrix-product speed of this machine in FLOP/s: the best square product of several sizes."""
    best = 0.0
    for size in (1024, 1536, 2048):
        a, b = torch.randn(size, size), torch.randn(size, size)
        best = max(best, 2 * size**3 / seconds(lambda a=a, b=b: a @ b, repeats=8))  # type: ignore[misc]
    return best


def peak_memory() -> float:
    """Largest resident set of this process so far, in MB."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


@torch.no_grad()
def reference_manner(lm: LanguageModel, prompt: Prompt, heads: list[Head], values: Tensor) -> None:
    """One full forward a head with logits at every position, as the public reference does."""
    ids, naive = torch.tensor([prompt.token_ids]), NaiveSweep(lm)
    for head in heads:
        with edit_head_outputs(lm, head.layer, naive.patch(head, values)):
            lm.model(input_ids=ids, use_cache=False).logits[:, -1].log_softmax(-1)


def measure_cie(lm: LanguageModel, n_demos: int, n_trials: int, max_rows: int, peak: float) -> dict[str, Any]:
    """Our head sweep against both naive manners, and against the arithmetic limit."""
    corrupted, _ = prompts(lm, n_demos, n_trials)
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)
    sweep = SharedPrefixSweep(lm, max_rows)
    values = sweep.last_token(corrupted)[1].mean(0)
    before = peak_memory()
    ours = seconds(lambda: sweep.patch_heads(corrupted, values, heads), repeats=2) / n_trials
    memory = peak_memory() - before
    sampled = heads[:: max(1, len(heads) // SAMPLED_HEADS)][:SAMPLED_HEADS]
    full = seconds(lambda: reference_manner(lm, corrupted[0], sampled, values), repeats=2) / len(sampled)
    # The naive sweep runs one unpatched forward more than it has heads.
    last = seconds(lambda: NaiveSweep(lm).patch_heads(corrupted[:1], values, sampled), repeats=2) / (len(sampled) + 1)
    flops = sum(cie_flops(lm, len(p.token_ids), heads) for p in corrupted) / n_trials
    return {
        "model": lm.name,
        "shots": n_demos,
        "tokens": sum(len(p.token_ids) for p in corrupted) / n_trials,
        "heads": len(heads),
        "trials": n_trials,
        "seconds_a_trial": ours,
        "reference_manner_seconds": full * (len(heads) + 1),
        "naive_seconds": last * (len(heads) + 1),
        "vs_reference_manner": full * (len(heads) + 1) / ours,
        "vs_naive": last * (len(heads) + 1) / ours,
        "gflops": flops / ours / 1e9,
        "of_peak": flops / ours / peak,
        "extra_memory_mb": memory,
    }


def measure_injection(lm: LanguageModel, n_vectors: int, n_trials: int, max_rows: int, peak: float) -> dict[str, Any]:
    """Our injection sweep, all layers x 3 alphas, against one forward a cell."""
    _, zero_shot = prompts(lm, 5, n_trials)
    cells = [Cell(layer, alpha) for layer in range(lm.n_layers) for alpha in (0.5, 1.0, 2.0)]
    torch.manual_seed(0)
    vectors = torch.randn(n_vectors, lm.d_model).expand(n_trials, -1, -1)
    sweep = SharedPrefixSweep(lm, max_rows)
    ours = seconds(lambda: sweep.inject(zero_shot, vectors, cells), repeats=2)
    sampled = cells[:: max(1, len(cells) // SAMPLED_CELLS)][:SAMPLED_CELLS]
    naive = seconds(lambda: NaiveSweep(lm).inject(zero_shot[:1], vectors[:1, :1], sampled), repeats=2) / (
        len(sampled) + 1
    )
    n_rows = n_trials * n_vectors * len(cells)
    flops = sum(injection_flops(lm, len(p.token_ids), n_vectors, cells) for p in zero_shot)
    return {
        "model": lm.name,
        "vectors": n_vectors,
        "trials": n_trials,
        "cells": len(cells),
        "seconds": ours,
        "rows_a_second": n_rows / ours,
        "naive_rows_a_second": 1 / naive,
        "vs_naive": n_rows / ours * naive,
        "of_peak": flops / ours / peak,
    }


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """Print measurements as a table, a column a key."""
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="left" if key == "model" else "right")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="SmolLM2 at 10 shots only")
    parser.add_argument("--trials", type=int, default=12, help="trials of the head sweep")
    parser.add_argument("--max-rows", type=int, default=4096, help="compute.max_rows")
    args = parser.parse_args()
    console = Console(width=160)
    peak = sgemm_peak()
    small = smollm2()
    subjects = [small] if args.quick else [small, gpt2_shape(small)]
    shots = [10] if args.quick else [10, 5]
    result: dict[str, Any] = {
        "machine": {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()},
        "torch": torch.__version__,
        "sgemm_peak_gflops": peak / 1e9,
        "sampled": f"the naive side is timed on {SAMPLED_HEADS} heads or {SAMPLED_CELLS} cells and scaled to all",
    }
    console.print(f"SGEMM peak: {peak / 1e9:.1f} GFLOP/s with {torch.get_num_threads()} threads; {result['sampled']}.")
    result["cie"] = [measure_cie(lm, n, args.trials, args.max_rows, peak) for lm in subjects for n in shots]
    show(console, "Head sweep (CIE), seconds a trial", result["cie"])
    result["injection"] = [measure_injection(small, n, 16, args.max_rows, peak) for n in (1, 8)]
    show(console, "Injection sweep (Step6), all layers x 3 alphas", result["injection"])
    if not args.quick:
        result["growth"] = [
            measure_cie(small, n_demos, n_trials, args.max_rows, peak)
            for n_demos, n_trials in ((2, 12), (5, 12), (20, 12), (40, 6), (10, 1), (10, 4), (10, 24))
        ]
        show(console, "Growth with prompt length and trials", result["growth"])
    result["sgemm_peak_gflops_after"] = sgemm_peak() / 1e9
    result["peak_memory_mb"] = peak_memory()
    write_json(RESULTS, result)
    console.print(f"SGEMM peak at the end: {result['sgemm_peak_gflops_after']:.1f} GFLOP/s. Written to {RESULTS}.")


if __name__ == "__main__":
    main()
