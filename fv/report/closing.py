"""The closing tables of Step6: what the chosen injections changed, and what else one might have done."""

from collections.abc import Mapping, Sequence
from typing import Any

from fv.display import print_table
from fv.evaluation.tables import NO_VECTOR
from fv.report.numbers import heads, interval
from fv.report.summary import Row, Summary, vector_name_of

BASELINES = {
    "few_shot": "few-shot prompt",
    "few_shot_corrupted": "corrupted prompt",
    "few_shot_corrupted_fv": "corrupted + vector",
    "layer_mean_replaced": "mean replaced",
    "layer_mean_added": "mean added",
    "random_vector": "best random vector",
}
"""Conditions that the second table sets beside the vector, and what it calls them."""
WITHOUT_VECTOR = ("few_shot", "few_shot_corrupted", "layer_mean_replaced", "layer_mean_added")
CONTROLS = {"minus random": "random_vector", "minus corrupted": "corrupted_prompts"}


def print_effects(title: str, summary: Summary, ranked: Mapping[str, Sequence[Row]]) -> None:
    """Print a row a vector and relation: its chosen cell, and what the injection changed on test trials.

    Args:
        title: of the table.
        summary: Step6's.
        ranked: {source of a vector: its heads, best first}.
    """
    controls = CONTROLS if summary.has_held_out else {}
    names = ("vector", "top heads", "layer", "α", "norm", "accuracy", "Δ log p", *controls, "n")
    rows = []
    for row in summary.chosen:
        found = row["mean_delta_logprob"], row["mean_delta_logprob_ci_low"], row["mean_delta_logprob_ci_high"]
        norm = row.get("relative_norm")
        rows.append(
            (
                vector_name_of(row),
                heads(ranked.get(row["fv_source"], ())[: min(3, row.get("k") or 3)]),
                row["layer"],
                f"{row['alpha']:g}",
                "–" if norm is None else f"{norm:.2g}",
                _accuracy(row, summary),
                interval(*found),
                *(_contrast(summary.minus(row, control)) for control in controls.values()),
                row["n_test"],
            )
        )
    print_table(title, names, rows, n_text=2)


def print_baselines(summary: Summary) -> None:
    """Print accuracy and Δ log p of what else one might do, a row of `Summary.compared` each."""
    rows = []
    for row in summary.compared:
        # A baseline's change is told against the zero-shot prompt, whatever prompt it edits.
        unedited = summary.metrics("zero_shot", row["eval_qid"])[0]["logprob"]["mean"]
        rows.append(
            (summary.name_of(row), *(_best(summary, row, condition, unedited) for condition in ("fv", *BASELINES)))
        )
    if rows:
        exact = dict.fromkeys(q for row in summary.compared if summary.lead(q := row["eval_qid"]) != "top1")
        counted = f"accuracy (exact match of {', '.join(exact)})" if exact else "accuracy"
        title = f"Beside it: {counted} and Δ log p against the zero-shot prompt"
        print_table(title, ("relation", "vector", *BASELINES.values()), rows)


def _best(summary: Summary, row: Row, condition: str, unedited: float) -> str:
    """Accuracy and change of log p of a condition, of its best draw."""
    q_id = row["eval_qid"]
    draws = summary.metrics(condition, q_id, NO_VECTOR if condition in WITHOUT_VECTOR else row["fv"])
    if not draws:
        return "–"
    best = max(draws, key=lambda metrics: metrics["logprob"]["mean"])
    return f"{best[summary.lead(q_id)]['mean']:.2f} {best['logprob']['mean'] - unedited:+.1f}"


def _accuracy(row: Row, summary: Summary) -> str:
    """Without and with the vector, by exact match where first tokens say nothing."""
    before, after = summary.answered(row)
    return f"{before:.2f} → {after:.2f}{'' if summary.lead(row['eval_qid']) == 'top1' else ' exact'}"


def _contrast(found: dict[str, Any] | None) -> str:
    return interval(found["mean"], found["ci_low"], found["ci_high"]) if found else "–"
