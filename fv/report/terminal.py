"""A run's summary as tables for people, with the sentences that keep them from being misread."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fv.evaluation.tables import ALL, NO_VECTOR
from fv.files import read_json
from fv.runs.paths import RunPaths, run_folder
from fv.vectors.names import source_name

BASELINES = {
    "few_shot": "few-shot prompt",
    "few_shot_corrupted": "corrupted prompt",
    "few_shot_corrupted_fv": "corrupted + vector",
    "layer_mean_replaced": "mean replaced",
    "layer_mean_added": "mean added",
    "random_vector": "best random vector",
}
"""Conditions that the second table sets beside the vector, and what it calls them."""
OWN_KINDS = {"qid": "per_qid", "aie_qid": "aie_per_qid"}
"""Kinds of a relation's own vectors, and where `top_heads.json` has their heads."""


@dataclass(frozen=True)
class Summary:
    """`eval_summary.json`, looked up by what a table asks for.

    Attributes:
        values: the summary.
    """

    values: dict[str, Any]

    @property
    def has_held_out(self) -> bool:
        return "held_out" in self.values

    @cached_property
    def _leads(self) -> dict[str, str]:
        return {row["eval_qid"]: row["lead_metric"] for row in self.values.get("relations", [])}

    @cached_property
    def _held_out(self) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
        found: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
        for row in self.values.get("held_out", []):
            if row["subset"] == ALL:
                found[row["condition"], row["eval_qid"], row["fv"]].append(row["metrics"])
        return found

    @cached_property
    def _contrasts(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        return {
            (row["eval_qid"], row["fv"], row["minus"]): row
            for row in self.values.get("contrasts", [])
            if (row["condition"], row["subset"]) == ("fv", ALL)
        }

    def lead(self, q_id: str) -> str:
        """What a relation's answers are counted by: `top1`, or `exact_match` where first tokens say nothing."""
        return self._leads.get(q_id, "top1")

    def metrics(self, condition: str, q_id: str, fv: str = NO_VECTOR) -> list[dict[str, Any]]:
        """The metrics of each draw of a condition."""
        return self._held_out.get((condition, q_id, fv), [])

    def minus(self, row: dict[str, Any], control: str, metric: str = "logprob") -> dict[str, Any] | None:
        """A chosen vector's effect minus a control's."""
        found = self._contrasts.get((row["eval_qid"], row["fv"], control))
        return {**found["metrics"][metric], "n_draws": found["n_draws"]} if found else None


def print_report(step6: Path) -> None:
    """Print, per vector and relation, what its chosen injection changed on the test trials."""
    meta, values = read_json(step6 / "eval_meta.json"), read_json(step6 / "eval_summary.json")
    summary = Summary(values)
    # A relation may be called [b] or :b:, which rich would take for its own signs.
    console = Console(width=None if Console().is_terminal else 160, markup=False, emoji=False)
    chosen = values["chosen"]
    if chosen and "mean_delta_logprob" in chosen[0]:
        title = f"Zero-shot answers of {meta['config']['model']['name']} with function vectors injected"
        console.print(_effects(title, _top_heads(step6, meta), summary))
        console.print(_how_chosen(values))
        if summary.has_held_out:
            console.print(_baselines(summary))
            for line in baselines_that_win(summary):
                console.print(line)
    else:
        console.print("No cell was chosen (evaluation.dev_fraction=0); every cell is in eval_summary.json.")
    for line in values.get("warnings", []):
        console.print(f"Mind: {line}", highlight=False)
    console.print(f"Run: {run_folder(step6)}", soft_wrap=True)


def baselines_that_win(summary: Summary) -> list[str]:
    """A sentence for each baseline that does better than the vector somewhere, naming the relations."""
    own = [row for row in summary.values["chosen"] if row["fv_kind"] != "aie_qid" and _in_domain(row)]
    lines = []
    for control, words in (
        ("layer_mean_replaced", "The layer mean put in the residual stream's place"),
        ("layer_mean_added", "The layer mean added"),
        ("random_vector", "The mean of the random vectors"),
        ("corrupted_prompts", "The same heads' vector of corrupted prompts"),
        ("few_shot", "The few-shot prompt"),
    ):
        against = {row["eval_qid"]: summary.minus(row, control) for row in own}
        ahead = {q: found for q, found in against.items() if found and found["mean"] < 0}
        if ahead:
            sure = [q for q, found in ahead.items() if found["ci_high"] is not None and found["ci_high"] < 0]
            clearly = f"; beyond its interval in {', '.join(sure)}" if sure and len(sure) < len(ahead) else ""
            lines.append(f"{words} gives a higher log p than the vector in {', '.join(ahead)}{clearly}.")
    reached = []
    for row in own:
        metric = summary.lead(row["eval_qid"])
        shown = summary.metrics("few_shot", row["eval_qid"])
        both = summary.metrics("few_shot_corrupted_fv", row["eval_qid"], row["fv"])
        if shown and both and both[0][metric]["mean"] >= shown[0][metric]["mean"] > 0:
            reached.append(row["eval_qid"])
    if reached:
        lines.append(f"In the corrupted prompt the vector reaches few-shot accuracy in {', '.join(reached)}.")
    return lines


def _effects(title: str, heads: dict[str, str], summary: Summary) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title)
    for name in ("vector", "top heads"):
        table.add_column(name, no_wrap=name == "vector")
    for name in ("layer", "α", "norm", "accuracy", "Δ log p", "minus random", "minus corrupted", "n"):
        table.add_column(name, justify="right")
    for row in summary.values["chosen"]:
        norm = row.get("relative_norm")
        table.add_row(
            row["fv"] if _in_domain(row) else f"{row['fv']} → {row['eval_qid']}",
            heads.get(row["fv_source"], "–"),
            str(row["layer"]),
            f"{row['alpha']:g}",
            "–" if norm is None else f"{norm:.2g}",
            _accuracy(row, summary),
            _interval(row["mean_delta_logprob"], row["mean_delta_logprob_ci_low"], row["mean_delta_logprob_ci_high"]),
            _contrast(summary.minus(row, "random_vector")),
            _contrast(summary.minus(row, "corrupted_prompts")),
            str(row["n_test"]),
        )
    return table


def _baselines(summary: Summary) -> Table:
    table = Table(box=SIMPLE_HEAD, title="Beside it: accuracy and Δ log p against the zero-shot prompt")
    table.add_column("relation", no_wrap=True)
    for name in ("vector", *BASELINES.values()):
        table.add_column(name, justify="right")
    for row in summary.values["chosen"]:
        if row["fv_kind"] == "aie_qid" or not _in_domain(row):
            continue
        q_id, fv = row["eval_qid"], row["fv"]
        without = {"few_shot", "few_shot_corrupted", "layer_mean_replaced", "layer_mean_added"}
        # A baseline's change is told against the zero-shot prompt, whatever prompt it edits.
        unedited = summary.metrics("zero_shot", q_id)[0]["logprob"]["mean"]
        cells = []
        for condition in ("fv", *BASELINES):
            draws = summary.metrics(condition, q_id, NO_VECTOR if condition in without else fv)
            best = max(draws, key=lambda metrics: metrics["logprob"]["mean"], default=None)
            change = None if best is None else best["logprob"]["mean"] - unedited
            cells.append("–" if best is None else f"{best[summary.lead(q_id)]['mean']:.2f} {change:+.1f}")
        table.add_row(q_id, *cells)
    return table


def _how_chosen(values: dict[str, Any]) -> str:
    chosen, n_cells = values["chosen"], len(values["layers"]) * len(values["alphas"])
    confidence = f"with {values['confidence']:.0%} intervals"
    if values.get("eval_split") == "fit":
        test = "of other trials, but all of them chose the heads and made the vectors (data.split=shared)"
    else:
        test = "of n other trials, their test trials"
    draws = "; those of random vectors include their draws" if "held_out" in values else ""
    unit = "the residual stream's norm" if values.get("alpha_unit") == "residual" else "the vector"
    return (
        f"Layer and alpha were chosen among {n_cells} cells on {_range(row['n_dev'] for row in chosen)} dev trials a "
        f"relation; all numbers are {test}, {confidence}{draws}. α multiplies {unit}; norm is the vector's over the "
        "residual stream's. @aie: the heads of the AIE, as in Todd et al. Every condition and cell: eval_summary.json."
    )


def _accuracy(row: dict[str, Any], summary: Summary) -> str:
    """Without and with the vector, by exact match where first tokens say nothing."""
    q_id = row["eval_qid"]
    if summary.has_held_out and (metric := summary.lead(q_id)) != "top1":
        before, after = (
            found[0][metric]["mean"]
            for found in (summary.metrics("zero_shot", q_id), summary.metrics("fv", q_id, row["fv"]))
        )
        return f"{before:.2f} → {after:.2f} exact"
    return f"{row['baseline_accuracy']:.2f} → {row['injected_accuracy']:.2f}"


def _in_domain(row: dict[str, Any]) -> bool:
    return any(row["fv_source"] == source_name(kind, row["eval_qid"]) for kind in OWN_KINDS)


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
    named = {source_name("global", None): ranked["global"]}
    for kind, key in OWN_KINDS.items():
        named |= {source_name(kind, q_id): heads for q_id, heads in ranked.get(key, {}).items()}
    return {name: _heads(heads[:count]) for name, heads in named.items()}


def _heads(heads: Sequence[dict[str, Any]]) -> str:
    return " ".join(f"{head['layer']}.{head['head']}" for head in heads)
