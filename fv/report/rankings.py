"""What StepD and StepE found, as tables: how prompts are answered, and which heads carry each relation."""

import pandas as pd

from fv.display import print_table, print_text
from fv.report.numbers import heads, interval
from fv.report.screened import screen_report_of, screen_sentences
from fv.runs.run import Run
from fv.vectors.names import ranking_name

PROMPTS = ("corrupted", "clean")
STABILITY = "ranking_stability"
N_SHOWN = 3
"""Heads that are named."""


def print_stepd(run: Run) -> None:
    """Print a row a relation: how its prompts are answered, and its heads of the largest effects."""
    key = run.config.score.key.value
    effects, trials = _effects(run, "cie_stats", key), run.table("trial_metrics")
    table = []
    for q_id, own in effects.groupby("q_id", sort=True):
        answered = [f"{trials[trials['q_id'] == q_id][f'{prompt}_correct'].mean():.2f}" for prompt in PROMPTS]
        table.append((q_id, *answered, *_largest(own), own["n_trials"].iloc[0]))
    over_all = _largest(_effects(run, "aie_stats", key))
    table.append(("all (AIE)", *["–"] * len(PROMPTS), *over_all, "–"))
    names = ("relation", *PROMPTS, "best heads", "effect of the best", "n")
    print_table(f"Accuracy of prompts, and effects of heads ({key}) in {run.config.model.name}", names, table)
    if said := screen_sentences(screen_report_of(run)):
        print_text(said)


def print_stepe(run: Run) -> None:
    """Print a row a ranking: its best heads, and how sure it is of its top k."""
    ranked = run.record("top_heads")
    # Without the analysis of the rankings' stability there are the heads alone.
    reports = run.record(STABILITY)["rankings"] if f"{STABILITY}.json" in run.files else {}
    best = {ranking_name(None): ranked["global"]} | {ranking_name(q): own for q, own in ranked["per_qid"].items()}
    table = []
    for name, own in best.items():
        report = reports.get(name, {})
        halves, gap = report.get("split_half"), report.get("gap")
        overlap = halves["overlap_apart"] if halves else None
        table.append(
            (
                name,
                heads(own[:N_SHOWN]),
                "–" if overlap is None else f"{overlap:.2f}",
                f"{report['mean_inclusion']:.2f}" if report else "–",
                "–" if gap is None else interval(gap["mean"], gap["ci_low"], gap["ci_high"], digits=2),
            )
        )
    names = ("ranking", "best heads", "halves agree", "bootstraps agree", "gap behind k")
    title = f"Rankings of heads by {ranked['score_key']}; the top {ranked['k']} make the vectors"
    print_table(title, names, table, n_text=2)


def _effects(run: Run, name: str, key: str) -> pd.DataFrame:
    """The rows of a table of effects that are of the score `key`."""
    table = run.table(name)
    return table[table["metric"] == key]


def _largest(effects: pd.DataFrame) -> tuple[str, str]:
    """The heads of the largest means, and the first one's effect."""
    best = effects.sort_values(["mean", "layer", "head"], ascending=[False, True, True]).head(N_SHOWN)
    first = best.iloc[0]
    low, high = (None if pd.isna(end) else float(end) for end in (first["ci_low"], first["ci_high"]))
    named = heads({str(key): value for key, value in row.items()} for row in best[["layer", "head"]].to_dict("records"))
    return named, interval(float(first["mean"]), low, high, digits=2)
