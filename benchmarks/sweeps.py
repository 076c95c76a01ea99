"""Measure the engines: `make bench`, or `python -m benchmarks.sweeps --help`.

Everything is measured in one process on one machine, so ratios can be compared between machines, and seconds cannot.
Naive methods are sampled: some heads or cells are timed and scaled to all, as the output says. Nothing else may run on
the machine meanwhile.
"""

import argparse
import platform
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.measure import extra_memory, seconds, seconds_and_speed
from benchmarks.products import measure_products
from benchmarks.second_half import measure_second_half
from benchmarks.subjects import EIGHT_RELATIONS, ONE_RELATION, gemma_shape, gpt2_shape, prompts, smollm2
from fv.config import Dtype
from fv.files import write_json
from fv.heads.ranking import heads_to_sweep
from fv.interventions.engine import Cell, Head
from fv.interventions.hooks import edit_head_outputs
from fv.interventions.naive import NaiveEngine
from fv.interventions.shared_prefix import SharedPrefixEngine
from fv.models.language_model import LanguageModel
from fv.models.prompt import Prompt
from fv.pricing.flops import cie_flops, injection_flops
from fv.pricing.shape import Shape

RESULTS = Path("results_fv") / "bench.json"
SAMPLED = 10
ALPHAS = (0.5, 1.0, 2.0)


@torch.no_grad()
def reference_sweep(lm: LanguageModel, prompt: Prompt, heads: list[Head], values: Tensor) -> None:
    """Run one full forward per head with logits at every position, as the public reference does."""
    ids, naive = torch.tensor([prompt.token_ids], device=lm.device), NaiveEngine(lm)
    for head in heads:
        with edit_head_outputs(lm, head.layer, naive.patch(head, values)):
            lm.model(input_ids=ids, use_cache=False).logits[:, -1].log_softmax(-1)


def measure_cie(
    lm: LanguageModel, n_demos: int, n_trials: int, max_rows: int, every: int = 1, naive: bool = True
) -> dict[str, Any]:
    """Measure the head sweep, of one head in `every`, relative to the arithmetic limit and to both naive methods."""
    corrupted, _ = prompts(lm, n_demos, n_trials)
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)[::every]
    engine = SharedPrefixEngine(lm, max_rows)
    values = engine.last_token(corrupted).head_outputs.mean(0)
    memory = extra_memory(lm, lambda: engine.patch_heads(corrupted, values, heads))
    ours, peak = seconds_and_speed(lm, lambda: engine.patch_heads(corrupted, values, heads))
    shape = Shape.of(lm)
    flops = sum(cie_flops(shape, len(p.token_ids), heads) for p in corrupted)
    row = {
        "model": lm.name,
        "shots": n_demos,
        "tokens": sum(len(p.token_ids) for p in corrupted) / n_trials,
        "heads": len(heads),
        "trials": n_trials,
        "seconds_a_trial": ours / n_trials,
        "gflops": flops / ours / 1e9,
        "sgemm_gflops": peak / 1e9,
        "of_sgemm": flops / ours / peak,
        "extra_memory_mb": memory,
    }
    if not naive:
        return row
    sampled = heads[:: max(1, len(heads) // SAMPLED)][:SAMPLED]
    full = seconds(lambda: reference_sweep(lm, corrupted[0], sampled, values), repeats=2) / len(sampled)
    # The naive engine runs one forward per head, and one unpatched forward.
    last = seconds(lambda: NaiveEngine(lm).patch_heads(corrupted[:1], values, sampled), repeats=2) / (len(sampled) + 1)
    reference, last_position = full * (len(heads) + 1), last * (len(heads) + 1)
    return row | {
        "reference_seconds": reference,
        "naive_seconds": last_position,
        "vs_reference": reference * n_trials / ours,
        "vs_naive": last_position * n_trials / ours,
    }


def measure_injection(
    lm: LanguageModel, n_vectors: int, max_rows: int, relations: Sequence[str] = ONE_RELATION, naive: bool = True
) -> dict[str, Any]:
    """Measure the injection grid, 16 trials per relation x all layers x 3 alphas, relative to one forward per cell."""
    _, zero_shot = prompts(lm, 5, 16, relations)
    n_trials = len(zero_shot)
    cells = [Cell(layer, alpha) for layer in range(lm.n_layers) for alpha in ALPHAS]
    torch.manual_seed(0)
    vectors = torch.randn(n_vectors, lm.d_model).expand(n_trials, -1, -1)
    engine = SharedPrefixEngine(lm, max_rows)
    ours, peak = seconds_and_speed(lm, lambda: engine.inject(zero_shot, vectors, cells), repeats=2 if naive else 1)
    n_rows = n_trials * n_vectors * len(cells)
    shape = Shape.of(lm)
    flops = sum(injection_flops(shape, len(p.token_ids), n_vectors, cells) for p in zero_shot)
    row = {
        "model": lm.name,
        "vectors": n_vectors,
        "trials": n_trials,
        "cells": len(cells),
        "seconds": ours,
        "rows_a_second": n_rows / ours,
        "of_sgemm": flops / ours / peak,
    }
    if not naive:
        return row
    sampled = cells[:: len(cells) // SAMPLED][:SAMPLED]
    one = seconds(lambda: NaiveEngine(lm).inject(zero_shot[:1], vectors[:1, :1], sampled), repeats=2)
    naive_rows = (len(sampled) + 1) / one
    return row | {"naive_rows_a_second": naive_rows, "vs_naive": n_rows / ours / naive_rows}


def demo_cells(lm: LanguageModel) -> list[Cell]:
    """Cells as in the demo: every third layer at two strengths."""
    return [Cell(layer, alpha) for layer in range(2, lm.n_layers, 3) for alpha in (1.0, 2.0)]


def measure_startup() -> list[dict[str, Any]]:
    """Measure the seconds of whole processes: two that stop before a model is loaded, and one with a single trial."""
    one_trial = ["data.qids=[country_capital]", "data.n_trials_per_q=1", "data.n_demos=5", "data.split=shared"]
    commands = {
        "--help": ["--help"],
        "a configuration error": ["data.n_demos=-1"],
        "one trial": [*one_trial, "score.k=1", "run_id=bench_start", "overwrite=true", "analysis=[]"],
    }
    return [
        {
            "python -m entrypoints.stepd": name,
            "seconds": seconds(
                lambda args=args: subprocess.run(  # type: ignore[misc]  # mypy infers no type of a default
                    [sys.executable, "-m", "entrypoints.stepd", *args], capture_output=True, check=False
                )
            ),
        }
        for name, args in commands.items()
    ]


def show(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """Print measurements as a table, with one column per key."""
    table = Table(title=title)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), justify="right" if key != "model" else "left")
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    console.print(table)


def main() -> None:
    """Measure, print, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="SmolLM2 at 10 shots, and 1 and 8 vectors, only")
    parser.add_argument("--trials", type=int, default=12, help="trials of the head sweep")
    parser.add_argument("--max-rows", type=int, default=4096, help="compute.max_rows")
    parser.add_argument("--device", default="cpu", help="device of the models, such as cuda")
    parser.add_argument("--dtype", default="fp32", choices=[*Dtype], help="number format of the models")
    args = parser.parse_args()
    console, rows = Console(width=170), args.max_rows
    small = smollm2(args.device, args.dtype)
    cpu = platform.processor() or platform.machine()
    gpu = torch.cuda.get_device_name(small.device) if small.device.type == "cuda" else None
    result: dict[str, Any] = {
        "machine": {"cpu": cpu, "threads": torch.get_num_threads(), "gpu": gpu, "dtype": args.dtype},
        "torch": torch.__version__,
        "sampled": f"naive methods are timed on {SAMPLED} heads or {SAMPLED} cells of one trial and scaled to all",
    }
    where = gpu or f"{torch.get_num_threads()} threads"
    console.print(f"{where}, {args.dtype}; {result['sampled']}; sgemm is measured between the timings, in that format.")

    def table(key: str, title: str, measured: list[dict[str, Any]]) -> None:
        result[key] = measured
        show(console, title, measured)

    subjects, shots = ([small], [10]) if args.quick else ([small, gpt2_shape(small)], [10, 5])
    cie = [measure_cie(lm, n, args.trials, rows) for lm in subjects for n in shots]
    table("cie", "Head sweep (CIE)", cie)
    table("products", "Matrix products by the number of rows", measure_products(small))
    table("injection", "Injection grid (Step6)", [measure_injection(small, n, rows) for n in (1, 8)])
    large_vocabulary = [] if args.quick else [gemma_shape(small)]
    halves = [measure_second_half(lm, demo_cells(lm), rows) for lm in (small, *large_vocabulary)]
    table("second_half", "Step6's second half, one relation of the demo with one vector", [*chain(*halves)])
    if not args.quick:
        lengths = [measure_cie(small, n, t, rows, naive=False) for n, t in ((2, 12), (5, 12), (20, 12), (48, 8))]
        table("growth_tokens", "Growth with prompt length", lengths)
        trials = [measure_cie(small, 10, n, rows, naive=False) for n in (1, 2, 4, 8, 24)]
        table("growth_trials", "Growth with trials", trials)
        heads = [measure_cie(small, 10, 12, rows, every=n, naive=False) for n in (27, 9, 3)]
        table("growth_heads", "Growth with heads", heads)
        matrix = measure_injection(small, 8, rows, EIGHT_RELATIONS, naive=False)
        table("matrix", "Transfer matrix, 8 vectors x 8 relations", [matrix])
    table("startup", "Start-up", measure_startup())
    write_json(RESULTS, result)
    console.print(f"Written to {RESULTS}.")


if __name__ == "__main__":
    main()
