"""A run's summary as a table for people."""

from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from fv.artifacts import RunPaths, read_json
from fv.evaluation import best_cells


def print_report(step6: Path) -> None:
    """Print, per vector and relation: its top heads, best layer and alpha, and what the injection changed."""
    meta = read_json(step6 / "eval_meta.json")
    rows = pd.DataFrame(read_json(step6 / "eval_summary.json")["rows"])
    best = best_cells(rows)
    heads = _top_heads(step6, meta)
    table = Table(title=f"Zero-shot answers of {meta['config']['model']['name']} with function vectors injected")
    for name, justify in (
        *(
            ("vector", "left"),
            ("relation", "left"),
            ("top heads (layer.head)", "left"),
            ("layer", "right"),
            ("alpha", "right"),
        ),
        *(("accuracy", "right"), ("Δ log p", "right"), ("trials", "right")),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in best.itertuples():
        table.add_row(
            *(str(row.fv), str(row.eval_qid), heads.get(str(row.fv), "–"), str(row.layer), f"{row.alpha:g}"),
            *(f"{row.baseline_accuracy:.2f} → {row.injected_accuracy:.2f}", f"{row.mean_delta_logprob:+.2f}"),
            str(row.n_trials),
        )
    console = Console(width=None if Console().is_terminal else 120)
    console.print(table)
    n_cells = len(rows[["layer", "alpha"]].drop_duplicates())
    console.print(
        f"Layer and alpha are the best of {n_cells} cells by mean Δ log p on the {meta['eval_split']} trials, the same "
        "trials the numbers are of: read them as an upper end. Every cell is in eval_summary.json."
    )
    console.print(f"Run: {_run_folder(step6)}", soft_wrap=True)


def _run_folder(step6: Path) -> Path:
    return next((parent.parent for parent in step6.parents if parent.name == "artifacts"), step6)


def _top_heads(step6: Path, meta: dict, count: int = 5) -> dict[str, str]:
    """{vector: its first heads}, from the `top_heads.json` the vectors were made with."""
    paths = RunPaths(_run_folder(step6), meta["config"]["tag"])
    ranked = read_json(paths.stepe_to_read / "top_heads.json")
    named = {"global": ranked["global"], **ranked["per_qid"]}
    return {name: " ".join(f"{h['layer']}.{h['head']}" for h in heads[:count]) for name, heads in named.items()}
