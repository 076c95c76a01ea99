"""A run's summary as a table for people."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fv.artifacts import RunPaths, read_json, run_folder

COLUMNS = (
    *(("relation", "left"), ("top heads", "left"), ("layer", "right"), ("α", "right"), ("accuracy", "right")),
    *(("few-shot", "right"), ("Δ log p", "right"), ("minus random", "right"), ("minus corrupted", "right")),
    ("n", "right"),
)


def print_report(step6: Path) -> None:
    """Print, per vector and relation, what its chosen injection changed on the test trials."""
    meta, summary = read_json(step6 / "eval_meta.json"), read_json(step6 / "eval_summary.json")
    console = Console(width=None if Console().is_terminal else 160)
    chosen = summary["chosen"]
    if chosen and "mean_delta_logprob" in chosen[0]:
        console.print(_table(step6, meta, summary))
        console.print(
            f"Layer and alpha were chosen among {len(summary['layers']) * len(summary['alphas'])} cells on "
            f"{_range(row['n_dev'] for row in chosen)} dev trials a relation; all numbers are of n other trials, their "
            f"test trials, with {summary['confidence']:.0%} bootstrap intervals. Controls, baselines and every cell: "
            "eval_summary.json.",
        )
    else:
        console.print("No cell was chosen (evaluation.dev_fraction=0); every cell is in eval_summary.json.")
    console.print(f"Run: {run_folder(step6)}", soft_wrap=True)


def _table(step6: Path, meta: dict[str, Any], summary: dict[str, Any]) -> Table:
    table = Table(
        box=SIMPLE_HEAD, title=f"Zero-shot answers of {meta['config']['model']['name']} with function vectors injected"
    )
    for name, justify in COLUMNS:
        table.add_column(name, justify=justify, no_wrap=name == "relation")  # type: ignore[arg-type]
    heads = _top_heads(step6, meta)
    few_shot = {row["eval_qid"]: row for row in summary.get("held_out", []) if _is(row, condition="few_shot")}
    minus = {
        (row["fv"], row["eval_qid"], row["minus"]): row["metrics"]["logprob"]
        for row in summary.get("contrasts", [])
        if _is(row, condition="fv")
    }
    for row in summary["chosen"]:
        pair = (row["fv"], row["eval_qid"])
        shot = few_shot.get(row["eval_qid"])
        table.add_row(
            row["fv"] if row["fv"] == row["eval_qid"] else " → ".join(pair),
            *(heads.get(row["fv_source"], "–"), str(row["layer"]), f"{row['alpha']:g}"),
            f"{row['baseline_accuracy']:.2f} → {row['injected_accuracy']:.2f}",
            f"{shot['metrics']['top1']['mean']:.2f}" if shot else "–",
            _interval(row["mean_delta_logprob"], row["mean_delta_logprob_ci_low"], row["mean_delta_logprob_ci_high"]),
            *(_contrast(minus.get((*pair, control))) for control in ("random_vector", "corrupted_prompts")),
            str(row["n_test"]),
        )
    return table


def _is(row: dict[str, Any], condition: str) -> bool:
    return bool(row["condition"] == condition and row["subset"] == "all")


def _contrast(found: dict[str, Any] | None) -> str:
    return _interval(found["mean"], found["ci_low"], found["ci_high"]) if found else "–"


def _interval(mean: float, low: float | None, high: float | None) -> str:
    return f"{mean:+.1f}" if low is None or high is None else f"{mean:+.1f} [{low:.1f}, {high:.1f}]"


def _range(numbers: Iterable[int]) -> str:
    there = sorted(set(numbers))
    return str(there[0]) if len(there) == 1 else f"{there[0]} to {there[-1]}"


def _top_heads(step6: Path, meta: dict[str, Any], count: int = 3) -> dict[str, str]:
    """{vector: its first heads as layer.head}, from the `top_heads.json` the vectors were made with."""
    paths = RunPaths(run_folder(step6), meta["config"]["tag"])
    ranked = read_json(paths.stepe_to_read / "top_heads.json")
    named = {"global": ranked["global"], **ranked["per_qid"]}
    return {name: " ".join(f"{h['layer']}.{h['head']}" for h in heads[:count]) for name, heads in named.items()}
