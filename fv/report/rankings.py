"""Rankings and prompt scores as tables: the results of StepD and StepE."""

import pandas as pd

from fv.data.prompt_kinds import CLEAN, CORRUPTED
from fv.display import print_table, print_text
from fv.report.screen import screen_report_of, screen_sentences
from fv.report.words import head_names, terminal_interval
from fv.runs.run import Run
from fv.vectors.names import ranking_name

PROMPTS = (CORRUPTED, CLEAN)
STABILITY = "ranking_stability"
N_SHOWN = 3
"""Number of heads that a table names."""


def print_stepd(run: Run) -> None:
    """Print one row per relation: the accuracy of its prompts, and its heads with the largest effects."""
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
    """Print one row per ranking: its best heads, and the stability of its top k."""
    ranked = run.record("top_heads")
    # Without the analysis ranking_stability, only the heads are shown.
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
                head_names(own[:N_SHOWN]),
                "–" if overlap is None else f"{overlap:.2f}",
                f"{report['mean_inclusion']:.2f}" if report else "–",
                "–" if gap is None else terminal_interval(gap["mean"], gap["ci_low"], gap["ci_high"], digits=2),
            )
        )
    names = ("ranking", "best heads", "halves agree", "bootstraps agree", "gap after k")
    title = f"Rankings of heads by {ranked['score_key']}; the top {ranked['k']} make the vectors"
    print_table(title, names, table, n_text=2)


def _effects(run: Run, name: str, key: str) -> pd.DataFrame:
    """Rows of a table of effects for the score `key`."""
    table = run.table(name)
    return table[table["metric"] == key]


def _largest(effects: pd.DataFrame) -> tuple[str, str]:
    """Heads with the largest means, and the effect of the first."""
    best = effects.sort_values(["mean", "layer", "head"], ascending=[False, True, True]).head(N_SHOWN)
    first = best.iloc[0]
    low, high = (None if pd.isna(end) else float(end) for end in (first["ci_low"], first["ci_high"]))
    named = head_names(
        {str(key): value for key, value in row.items()} for row in best[["layer", "head"]].to_dict("records")
    )
    return named, terminal_interval(float(first["mean"]), low, high, digits=2)
