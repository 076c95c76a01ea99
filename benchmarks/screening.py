"""Measure the heads that screening misses: `python -m benchmarks.screening`.

Scores from gradients (`fv.interventions.gradient_scores`) are compared with the exact sweep of all heads, on the same
trials of the project's relations. The recall is the share of the best heads, or of the most negative heads, that
screening would verify. The exact sweep takes minutes on SmolLM2, and its results are kept in results_fv/screening/.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from scipy.stats import spearmanr

import fv
from benchmarks.subjects import EIGHT_RELATIONS
from fv.data.prompts import prompt_of
from fv.heads.effects import Effects
from fv.interventions.gradient_scores import head_scores
from fv.models.language_model import LanguageModel

FOLDER = Path("results_fv") / "screening"
SHARES = (0.05, 0.10, 0.20, 0.30)
KS = (5, 10, 20)
METHODS = {"gradient": ("gradient", 1), **{f"integrated, {n}": ("integrated", n) for n in (1, 2, 4)}}


def exact_effects(lm: LanguageModel, trials: fv.Trials) -> Effects:
    """Measure the effects of all heads on one relation, or read them if they are measured already."""
    path = FOLDER / f"{trials.snapshot.qids[0]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fv.indirect_effects(lm, trials, compute=fv.Compute(progress=False)).save(path)
    return fv.load_effects(path)


def highest(values: np.ndarray, n: int) -> list[int]:
    """The n heads with the highest values; `values` is (n_heads,)."""
    return np.argsort(-values, kind="stable")[:n].tolist()


def verified(scores: np.ndarray, sign: int, k: int) -> dict[str, set[int]]:
    """The heads that are swept: a share of all heads from one end, or both ends as with the defaults for k."""
    both = {*highest(scores, 4 * k), *highest(-scores, k)}
    return {f"{share:.0%}": {*highest(sign * scores, round(share * len(scores)))} for share in SHARES} | {
        "4k + k": both
    }


def rows_of(method: str, relation: str, effects: np.ndarray, scores: np.ndarray) -> list[dict[str, object]]:
    """Compute the recall of a method on one relation, or on the mean over all: a row for each end, k and choice."""
    about = {"method": method, "relation": relation, "spearman": float(spearmanr(effects, scores).statistic)}
    rows: list[dict[str, object]] = []
    for end, sign in (("best", 1), ("negative", -1)):
        for k in KS:
            best = highest(sign * effects, k)
            for name, heads in verified(scores, sign, k).items():
                if len(heads) >= k:
                    left = [head for head in best if head not in heads]
                    lost = effects[left[0]] if left else 0.0
                    rows.append({**about, "end": end, "k": k, "heads": name, "recall": 1 - len(left) / k, "lost": lost})
    return rows


def measured(lm: LanguageModel, relations: Sequence[str], methods: Sequence[str], console: Console) -> pd.DataFrame:
    """Measure the rows of every method, for each relation and for the mean over relations."""
    exact: dict[str, np.ndarray] = {}
    scored: dict[str, dict[str, np.ndarray]] = {method: {} for method in methods}
    for q_id in relations:
        trials = fv.sample_trials(fv.read_relations(names=[q_id]), lm, demos=10, fit=12, held_out=0)
        effects = exact_effects(lm, trials)
        exact[q_id] = effects.effects[q_id].delta_logprob.mean(0).ravel()
        prompts = [prompt_of(lm, trials.snapshot, trial, "corrupted") for trial in trials.fit]
        for method in methods:
            kind, points = METHODS[method]
            scores = head_scores(lm, prompts, effects.means[q_id].clean, kind, points)
            scored[method][q_id] = scores.mean(0).numpy().ravel()
        console.print(q_id)
    rows = []
    for method, own in scored.items():
        for q_id in relations:
            rows += rows_of(method, q_id, exact[q_id], own[q_id])
        mean_effects, mean_scores = (np.mean([of[q_id] for q_id in relations], 0) for of in (exact, own))
        rows += rows_of(method, "AIE", mean_effects, mean_scores)
    return pd.DataFrame(rows)


def recalls(rows: pd.DataFrame) -> pd.DataFrame:
    """Average recall over relations, and count those without a miss: a row for each method, end and k."""

    def shown(found: pd.Series) -> str:
        return f"{found.mean():.3f} ({(found == 1).sum()}/{len(found)})"

    grouped = rows.groupby(["method", "end", "k", "heads"], sort=False)["recall"].agg(shown)
    return grouped.unstack("heads", "").reset_index()


def markdown(console: Console, table: pd.DataFrame) -> None:
    """Print a table as Markdown."""
    console.print(" | ".join(["", *table.columns, ""]).strip(), soft_wrap=True, markup=False)
    console.print("|---" * table.shape[1] + "|", soft_wrap=True)
    for row in table.itertuples(index=False):
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        console.print(" | ".join(["", *cells, ""]).strip(), soft_wrap=True, markup=False)


def main() -> None:
    """Measure and print; every row goes into a CSV file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="eight relations")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["gradient", "integrated, 2"])
    args = parser.parse_args()
    console, lm = Console(), fv.load_model("smollm2")
    relations = EIGHT_RELATIONS if args.quick else tuple(fv.read_relations())
    rows = measured(lm, relations, args.methods, console)
    rows.to_csv(FOLDER / "recall.csv", index=False)
    single = rows[rows["relation"] != "AIE"]
    console.print(
        f"\nRecall over {len(relations)} relations (and relations without a miss), by share of verified heads"
    )
    markdown(console, recalls(single))
    console.print("\nRecall on the mean over relations")
    markdown(console, recalls(rows[rows["relation"] == "AIE"]))
    console.print("\nRank correlation with the effects")
    spearman = single.groupby(["method", "relation"], sort=False)["spearman"].first().groupby("method", sort=False)
    markdown(console, spearman.agg(["min", "median", "max"]).reset_index())
    console.print("\nThe twelve largest effects that are missed with 4k + k heads")
    lost = rows[(rows["recall"] < 1) & (rows["heads"] == "4k + k")]
    markdown(console, lost.sort_values("lost", key=abs, ascending=False).head(12))


if __name__ == "__main__":
    main()
