"""How often intervals hold the truth where there is nothing to find: `python -m benchmarks.null_relations`.

In a shuffled relation no input says anything about its output. Heads are measured, a vector is made, cells are chosen
and every condition is run on test trials, as in any run. Zero is not quite the truth there: a vector has a small effect
of its own on any words. So it is counted how often the interval of a contrast holds

- the truth: the contrast on many fresh trials of the same relation, with the vector and the cells of the run, and over
  fresh random vectors and all sets of random heads, each at its own best cell;
- the truth, if it were Student's t of the same mean and standard error;
- zero;
- zero where a fair coin says, trial by trial, which side is subtracted from which: there zero is the truth.
"""

import argparse
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from rich.progress import track
from scipy.stats import t as student_t

from benchmarks.coverage import print_table
from benchmarks.subjects import configured, smollm2, tiny_llama
from fv.config import Config
from fv.data.relations import Pair, Relation, Relations
from fv.data.sampling import prompt_of, sample_snapshot
from fv.data.snapshot import Trial
from fv.evaluation.asked import Asked
from fv.evaluation.candidate import Candidate
from fv.evaluation.cells import grid, weaker_cells
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.grid import eval_trials
from fv.evaluation.plan import Evaluation, GridResults
from fv.evaluation.selection import choose_cells
from fv.evaluation.settled import Condition, best_cells, settled
from fv.evaluation.tables import ALL, CONTRASTED, CONTRASTS_KEY, contrast_rows
from fv.heads.ranking import Ranking, heads_to_sweep
from fv.heads.relation_run import RelationRuns
from fv.heads.relations import measure
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for
from fv.shipped import shipped
from fv.statistics.grouped import grouped_means
from fv.units import NO_UNITS
from fv.vectors.function_vector import function_vector

NULL = "null"
"""The name of every shuffled relation."""
N_EVAL, N_OTHERS = 28, 120
"""Eval trials of a run, and pairs for the fit trials and all demonstrations."""
SETTINGS = ("data.n_trials_per_q=8", "data.n_demos=3", "score.k=4", f"injection.n_eval={N_EVAL}", "compute.threads=1")
MORE_DRAWS, ALL_SETS = 20, 1_000
"""Fresh random vectors, and more sets of random heads than there are."""
SCORED = ("logprob", "p")
"""The metrics whose truth is measured."""
SHOWN = {"logprob": "log p", "p": "p", "answer_logprob": "whole answer"}
HOLDS = {
    "holds_truth": "truth",
    "holds_truth_by_t": "truth, Student's t",
    "holds_zero": "zero",
    "holds_zero_by_coin": "zero, by coin",
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("relations", nargs="?", type=int, default=200, help="how many relations are shuffled")
    parser.add_argument("--seed", type=int, default=0, help="of the first one")
    parser.add_argument("--fresh", type=int, default=500, help="fresh trials that tell the truth")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config, lm = configured(*SETTINGS, f"data.n_eval_trials_per_q={N_EVAL + args.fresh}"), tiny_llama(smollm2())
    seeds = range(args.seed, args.seed + args.relations)
    shown = track(seeds, "Relations", console=Console(stderr=True))
    found = pd.concat([held(null_run(lm, config, seed)) for seed in shown], ignore_index=True)
    print(f"{args.relations} shuffled relations, {args.fresh} fresh trials each. Intervals that hold, in per cent:\n")
    print_table(*as_table(found))


def words() -> list[str]:
    """The lower-case words of the relations that ship with the project, sorted."""
    with shipped("datasets/relation/default.csv").open(encoding="utf-8", newline="") as file:
        every = {word for row in csv.DictReader(file) for word in (row["exA"], row["exB"])}
    return sorted(word for word in every if word.isascii() and word.isalpha() and word.islower())


def shuffled_relation(n_pairs: int, seed: int) -> Relations:
    """Words paired at random: no input says anything about its output."""
    rng, every = np.random.default_rng(seed), words()
    drawn = (rng.permutation(every)[:n_pairs].tolist() for _ in range(2))
    pairs = tuple(Pair(*pair) for pair in zip(*drawn, strict=True))
    return Relations(Path("shuffled"), "0" * 64, (Relation(NULL, pairs, 0, 0),))


@dataclass(frozen=True)
class NullRun:
    """The pipeline on a shuffled relation, without files.

    Attributes:
        evaluation: what its vector is evaluated by.
        grid: the vector at every cell.
        rows: trial rows of every condition on the test trials.
        contrasts: the comparisons that are made: (condition, what is subtracted from it).
    """

    evaluation: Evaluation
    grid: GridResults
    rows: pd.DataFrame
    contrasts: set[tuple[str, str]]


def null_run(lm: LanguageModel, config: Config, seed: int) -> NullRun:
    """Measure heads on the shuffled relation of a seed, and run its vector beside all that it is compared with."""
    relation = shuffled_relation(config.data.n_eval_trials_per_q + N_OTHERS, seed)
    snapshot = sample_snapshot(relation, config.data, seed, lm)
    engine, ranking = make_engine(lm, "auto", config.compute.max_rows), Ranking("mean_delta_logprob", config.score.k)
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)
    effects = measure(RelationRuns(lm, snapshot, heads, engine, config.score, seed), config.stats, NULL)
    vector = function_vector(lm, effects[NULL], ranking.k)
    evaluation = Evaluation(
        lm, engine, snapshot, config.evaluation, ranking, effects, config.injection.alpha_unit, config.stats, seed
    )
    plan, cells = [(vector, [NULL])], grid(config.injection, lm.n_layers)
    found = evaluation.grid(plan, cells, config.injection.n_eval, config.evaluation.dev_fraction)
    held_out = evaluation.held_out_run(found).run(NO_UNITS)
    return NullRun(evaluation, found, pd.concat(held_out.trials, ignore_index=True), held_out.contrasts)


def held(run: NullRun) -> pd.DataFrame:
    """One row a (contrast, metric): its interval, the truth where it is known, and what the interval holds."""
    differences = contrast_rows(run.rows, run.contrasts).assign(subset=ALL)
    trials = sorted(set(differences["trial_id"]))
    sides = generator_for(run.evaluation.seed, "coin").choice([-1, 1], len(trials))
    signs = differences["trial_id"].map(dict(zip(trials, sides, strict=True)))
    tossed = differences.assign(**{metric: differences[metric] * signs for metric in CONTRASTED})
    found, by_coin = (_estimates(run, rows) for rows in (differences, tossed))
    true = truth(run).rename("truth").reset_index()
    found = found.merge(true, on=["condition", "minus", "metric"], how="left")
    half = student_t.ppf((1 + run.evaluation.stats.confidence) / 2, found["n"] - 1) * found["se"]
    by_t = pd.DataFrame({"ci_low": found["mean"] - half, "ci_high": found["mean"] + half})
    return found.assign(
        holds_truth=_holds(found, found["truth"]),
        holds_truth_by_t=_holds(by_t, found["truth"]),
        holds_zero=_holds(found, 0.0),
        holds_zero_by_coin=_holds(by_coin, 0.0),
    )


def _estimates(run: NullRun, differences: pd.DataFrame) -> pd.DataFrame:
    stats, seed = run.evaluation.stats, run.evaluation.seed
    return grouped_means(differences, CONTRASTS_KEY, CONTRASTED, "trial_id", stats, seed, draw="draw")


def _holds(found: pd.DataFrame, value: pd.Series | float) -> pd.Series:
    return (found["ci_low"] <= value) & (value <= found["ci_high"])


def truth(run: NullRun) -> pd.Series:
    """Each contrast's mean of log p and p on the trials that the run has not seen, by (condition, minus, metric)."""
    fresh = eval_trials(run.evaluation.snapshot, NULL, None)[len(run.grid.parts) :]
    means = scored(run, fresh).groupby("condition").mean().to_dict()
    pairs = sorted(run.contrasts)
    found = {(a, b, metric): means[metric][a] - means[metric][b] for a, b in pairs for metric in SCORED}
    return pd.Series(found).rename_axis(["condition", "minus", "metric"])


def scored(run: NullRun, fresh: Sequence[Trial]) -> pd.DataFrame:
    """The mean scores on fresh trials of every condition of a run, random ones redrawn: condition, logprob, p."""
    evaluation = run.evaluation
    rows = []
    for kind, conditions in by_prompt(redrawn(run)).items():
        prompts = [prompt_of(evaluation.lm, evaluation.snapshot, trial, kind) for trial in fresh]
        logprob = evaluation.engine.target_logprobs(prompts, [each.edit for each in conditions])
        # (n_trials, n_conditions) -> (n_conditions,)
        means = zip(logprob.mean(0).tolist(), logprob.exp().mean(0).tolist(), strict=True)
        rows += [(each.name, *mean) for each, mean in zip(conditions, means, strict=True)]
    return pd.DataFrame(rows, columns=["condition", *SCORED])


def redrawn(run: NullRun) -> Iterator[tuple[Candidate, Condition]]:
    """The conditions of a run at their cells, with fresh random vectors and all sets of random heads."""
    evaluation, cells = run.evaluation, sorted({*run.grid.cells})
    n_drawn = int((run.rows.drop_duplicates(["condition", "draw"])["condition"] == "random_vector").sum())
    draws = {"random_vectors": n_drawn + MORE_DRAWS, "random_heads": ALL_SETS, "ablated_heads": ALL_SETS}
    more = replace(evaluation.settings, conditions={name: {"draws": count} for name, count in draws.items()})
    of_relations = replace(evaluation, settings=more).candidates(cells)
    chosen = choose_cells(run.grid.rows)
    cell = Cell(int(chosen["layer"].item()), float(chosen["alpha"].item()))
    every = of_relations.of(NULL, [(run.grid.vectors[0], cell)]).own
    candidates = [each for each in every if each.name != "random_vector" or each.draw >= n_drawn]
    asked = Asked.of(evaluation.lm, evaluation.snapshot, NULL, run.grid.parts)
    stream, weaker = of_relations.stream(NULL), evaluation.settings.controls.weaker
    choice = DevChoice(evaluation.engine, asked.dev, weaker_cells(cells, weaker), sorted([1.0, *weaker]), stream.unit)
    return zip(candidates, settled(candidates, best_cells(candidates, choice), stream), strict=True)


def by_prompt(conditions: Iterator[tuple[Candidate, Condition]]) -> Mapping[str, list[Condition]]:
    """{kind of prompt: its conditions}."""
    found: dict[str, list[Condition]] = {}
    for candidate, condition in conditions:
        found.setdefault(candidate.prompt, []).append(condition)
    return found


def as_table(found: pd.DataFrame) -> tuple[list[str], list[list[object]]]:
    """Column names and rows: a contrast each, with shares of its intervals.

    The first column is how far zero is from the truth of log p, in standard errors (root mean squares of both).
    """
    of = found.assign(contrast=found["condition"] + " − " + found["minus"])
    by_metric = {metric: own.groupby("contrast") for metric, own in of.groupby("metric")}
    squares = of[of["metric"] == "logprob"].assign(truth=of["truth"] ** 2, se=of["se"] ** 2).groupby("contrast")
    far = np.sqrt(squares["truth"].mean() / squares["se"].mean())
    shares = {
        f"{name}: {words}": by_metric[metric][column].mean()
        for metric, name in SHOWN.items()
        for column, words in HOLDS.items()
        if metric in SCORED or "truth" not in column
    }
    rows = [[name, f"{far[name]:.2f}", *map(float, row)] for name, *row in pd.DataFrame(shares).itertuples()]
    return ["contrast", "truth / s.e.", *shares], rows


if __name__ == "__main__":
    main()
