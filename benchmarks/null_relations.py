"""Measure the coverage of intervals on relations without a function: `python -m benchmarks.null_relations`.

In a shuffled relation, inputs do not determine outputs. Heads are measured, a vector is made, cells are chosen and all
conditions are run on test trials, as in any run. Zero is not exactly the truth there, because a vector has a small
effect of its own on any words. So these shares of a contrast's intervals are counted:

- intervals that contain the truth: the contrast on many fresh trials of the same relation, with the vector and the
  cells of the run, and over fresh random vectors and all sets of random heads, each at its own best cell;
- Student's t intervals of the same mean and standard error that contain the truth;
- intervals that contain zero;
- intervals that contain zero after a fair coin chose for each trial which side is subtracted; there zero is the truth.

One run per relation shows little. So the fresh trials are also cut into disjoint blocks, each as large as a run's test
trials, and the shares of intervals over one block that contain the mean over all other blocks, and zero, are counted.
There, random vectors and heads are redrawn and averaged, so that the interval is over trials alone. The mean of the
other blocks has an error of its own: with 25 blocks, it adds a twenty-fourth to the variance, half a point of coverage.
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
from fv.config import Config, StatsConfig
from fv.data.prompts import prompt_of
from fv.data.relations import Pair, Relation, Relations
from fv.data.sampling import sample_snapshot
from fv.data.trial import Trial
from fv.evaluation.candidate import Candidate
from fv.evaluation.cells import grid
from fv.evaluation.condition import Condition, settled
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.evaluation import Evaluation, GridResults
from fv.evaluation.grid import eval_trials
from fv.evaluation.questions import RelationPrompts
from fv.evaluation.selection import choose_cells
from fv.evaluation.tables import ALL, CONTRASTED, CONTRASTS_KEY, contrast_rows
from fv.heads.measurement import Measurement
from fv.heads.ranking import Ranking, heads_to_sweep
from fv.heads.relations import effects_flow
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for
from fv.shipped import shipped
from fv.statistics.grouped import grouped_means
from fv.vectors.function_vector import function_vector
from fv.work.driver import SERIAL

NULL = "null"
"""Name of every shuffled relation."""
N_EVAL, N_OTHERS = 28, 120
"""Numbers of eval trials of a run, and of pairs for the fit trials and all demonstrations."""
SETTINGS = ("data.n_trials_per_q=8", "data.n_demos=3", "score.k=4", f"injection.n_eval={N_EVAL}", "compute.threads=1")
MORE_DRAWS, ALL_SETS = 20, 1_000
"""Number of fresh random vectors, and a number of sets of random heads that is larger than there are."""
CONTRAST = ["condition", "minus"]
SCORED = ("logprob", "p")
"""Metrics whose truth is measured."""
SHOWN = {"logprob": "log p", "p": "p", "answer_logprob": "whole answer"}
HOLDS_IN_BLOCKS = {"holds_others": "the other blocks' mean", "holds_zero": "zero"}
HOLDS = {
    "holds_truth": "truth",
    "holds_truth_by_t": "truth, Student's t",
    "holds_zero": "zero",
    "holds_zero_by_coin": "zero, by coin",
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("relations", nargs="?", type=int, default=200, help="number of shuffled relations")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first relation")
    parser.add_argument("--fresh", type=int, default=500, help="number of fresh trials, which give the truth")
    parser.add_argument("--block", type=int, default=20, help="number of fresh trials in a block")
    args = parser.parse_args()
    if args.block < 2 or args.fresh < 2 * args.block:
        parser.error("--fresh must be two blocks or more, each of two trials or more")
    torch.set_num_threads(1)
    config, lm = configured(*SETTINGS, f"data.n_eval_trials_per_q={N_EVAL + args.fresh}"), tiny_llama(smollm2())
    seeds = range(args.seed, args.seed + args.relations)
    shown = track(seeds, "Relations", console=Console(stderr=True))
    by_run, by_block = [], []
    for seed in shown:
        run = null_run(lm, config, seed)
        fresh = fresh_differences(run)
        by_run.append(held(run, fresh))
        by_block.append(held_in_blocks(fresh, args.block, config.stats, seed))
    print(f"{args.relations} shuffled relations, {args.fresh} fresh trials each. Shares of intervals, in per cent:\n")
    print_table(*as_table(pd.concat(by_run, ignore_index=True)))
    blocks = pd.concat(by_block, ignore_index=True)
    print(f"\nOver {args.fresh // args.block} disjoint blocks of {args.block} fresh trials of each relation:\n")
    print_table(*as_table_of_blocks(blocks))


def words() -> list[str]:
    """The lower-case words of the project's relations, sorted."""
    with shipped("datasets/relation/default.csv").open(encoding="utf-8", newline="") as file:
        every = {word for row in csv.DictReader(file) for word in (row["exA"], row["exB"])}
    return sorted(word for word in every if word.isascii() and word.isalpha() and word.islower())


def shuffled_relation(n_pairs: int, seed: int) -> Relations:
    """Pair words at random, so that inputs do not determine outputs."""
    rng, every = np.random.default_rng(seed), words()
    drawn = (rng.permutation(every)[:n_pairs].tolist() for _ in range(2))
    pairs = tuple(Pair(*pair) for pair in zip(*drawn, strict=True))
    return Relations(Path("shuffled"), "0" * 64, (Relation(NULL, pairs, 0, 0),))


@dataclass(frozen=True)
class NullRun:
    """Results of the pipeline on a shuffled relation, without files.

    Attributes:
        evaluation: the evaluation of its vector.
        grid: results of the vector at every cell.
        rows: trial rows of every condition on the test trials.
        contrasts: the contrasts: (condition, the condition that is subtracted from it).
    """

    evaluation: Evaluation
    grid: GridResults
    rows: pd.DataFrame
    contrasts: set[tuple[str, str]]


def null_run(lm: LanguageModel, config: Config, seed: int) -> NullRun:
    """Measure heads on the shuffled relation of a seed, and evaluate its vector with all conditions."""
    relation = shuffled_relation(config.data.n_eval_trials_per_q + N_OTHERS, seed)
    snapshot = sample_snapshot(relation, config.data, seed, lm)
    engine, ranking = make_engine(lm, "auto", config.compute.max_rows), Ranking("mean_delta_logprob", config.score.k)
    heads = heads_to_sweep("all", "all", lm.n_layers, lm.n_heads)
    effects = SERIAL.run(effects_flow(Measurement(lm, snapshot, heads, engine, config.score, seed), config.stats), NULL)
    vector = function_vector(lm, effects[NULL], ranking.k)
    evaluation = Evaluation(
        lm, engine, snapshot, config.evaluation, ranking, effects, config.injection.alpha_unit, config.stats, seed
    )
    plan, cells = [(vector, [NULL])], grid(config.injection, lm.n_layers)
    found, held_out = SERIAL.run(evaluation.flow(plan, cells, config.injection.n_eval), NULL)
    assert held_out is not None
    return NullRun(evaluation, found, pd.concat(held_out.trials, ignore_index=True), held_out.contrasts)


def held(run: NullRun, fresh: pd.DataFrame) -> pd.DataFrame:
    """Make one row per (contrast, metric): its interval, the truth if it is known, and the values that it contains.

    Args:
        run: the run.
        fresh: its `fresh_differences`.
    """
    differences = contrast_rows(run.rows, run.contrasts).assign(subset=ALL)
    trials = sorted(set(differences["trial_id"]))
    sides = generator_for(run.evaluation.seed, "coin").choice([-1, 1], len(trials))
    signs = differences["trial_id"].map(dict(zip(trials, sides, strict=True)))
    tossed = differences.assign(**{metric: differences[metric] * signs for metric in CONTRASTED})
    found, by_coin = (_estimates(run, rows) for rows in (differences, tossed))
    means = fresh.groupby(CONTRAST, as_index=False)[list(SCORED)].mean()
    true = means.melt(CONTRAST, var_name="metric", value_name="truth")
    found = found.merge(true, on=[*CONTRAST, "metric"], how="left")
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


def held_in_blocks(fresh: pd.DataFrame, size: int, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Make one row per (contrast, metric, block): the interval over the block's trials, and the values it contains.

    Args:
        fresh: the run's `fresh_differences`.
        size: number of trials in a block; the rest is left out.
        stats: level, resamples and method of intervals.
        seed: the run's seed.
    """
    number = fresh["trial"] // size
    rows = fresh.assign(block=number)[number < (fresh["trial"].max() + 1) // size]
    kinds = {metric: CONTRASTED[metric] for metric in SCORED}
    found = grouped_means(rows, [*CONTRAST, "block"], kinds, "trial", stats, seed)
    sums = found.groupby([*CONTRAST, "metric"])["mean"]
    others = (sums.transform("sum") - found["mean"]) / (sums.transform("size") - 1)
    return found.assign(others=others, holds_others=_holds(found, others), holds_zero=_holds(found, 0.0))


def fresh_differences(run: NullRun) -> pd.DataFrame:
    """Compute each contrast on the trials that the run has not seen: condition, minus, trial number, logprob, p."""
    fresh = eval_trials(run.evaluation.snapshot, NULL, None)[len(run.grid.parts) :]
    of = dict(iter(scored(run, fresh).groupby("condition")))
    of = {name: rows.set_index("trial")[list(SCORED)] for name, rows in of.items()}
    parts = [(of[a] - of[b]).assign(condition=a, minus=b).reset_index() for a, b in sorted(run.contrasts)]
    return pd.concat(parts, ignore_index=True)


def scored(run: NullRun, fresh: Sequence[Trial]) -> pd.DataFrame:
    """Score every condition of a run on fresh trials, averaged over draws: condition, trial, logprob, p."""
    evaluation = run.evaluation
    parts = []
    for kind, conditions in by_prompt(redrawn(run)).items():
        prompts = [prompt_of(evaluation.lm, evaluation.snapshot, trial, kind) for trial in fresh]
        logprob = evaluation.engine.target_logprobs(prompts, [each.edit for each in conditions])
        for name in dict.fromkeys(each.name for each in conditions):
            own = logprob[:, [i for i, each in enumerate(conditions) if each.name == name]]  # (n_trials, n_draws)
            means = {"logprob": own.mean(1).numpy(), "p": own.exp().mean(1).numpy()}
            parts.append(pd.DataFrame({"condition": name, "trial": range(len(fresh)), **means}))
    return pd.concat(parts, ignore_index=True)


def redrawn(run: NullRun) -> Iterator[tuple[Candidate, Condition]]:
    """Make the conditions of a run at their cells, with fresh random vectors and all sets of random heads."""
    evaluation, cells = run.evaluation, sorted({*run.grid.cells})
    n_drawn = int((run.rows.drop_duplicates(["condition", "draw"])["condition"] == "random_vector").sum())
    draws = {"random_vector": n_drawn + MORE_DRAWS, "random_heads": ALL_SETS, "ablated_heads": ALL_SETS}
    more = replace(evaluation.settings, conditions={name: {"draws": count} for name, count in draws.items()})
    of_relations = replace(evaluation, settings=more).candidates(cells)
    chosen = choose_cells(run.grid.rows)
    cell = Cell(int(chosen["layer"].item()), float(chosen["alpha"].item()))
    every = of_relations.of(NULL, [(run.grid.vectors[0], cell)]).own
    candidates = [each for each in every if each.name != "random_vector" or each.draw >= n_drawn]
    prompts = RelationPrompts.of(evaluation.lm, evaluation.snapshot, NULL, run.grid.parts)
    stream = of_relations.stream(NULL)
    choice = DevChoice(evaluation.engine, prompts.dev, stream)
    return zip(candidates, settled(candidates, choice.of(candidates), stream), strict=True)


def by_prompt(conditions: Iterator[tuple[Candidate, Condition]]) -> Mapping[str, list[Condition]]:
    """Group conditions: {kind of prompt: its conditions}."""
    found: dict[str, list[Condition]] = {}
    for candidate, condition in conditions:
        found.setdefault(candidate.prompt, []).append(condition)
    return found


def as_table(found: pd.DataFrame) -> tuple[list[str], list[list[object]]]:
    """Make column names and rows, one per contrast, with shares of its intervals.

    The first column is the distance of zero from the truth of log p, in standard errors (root mean squares of both).
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


def as_table_of_blocks(found: pd.DataFrame) -> tuple[list[str], list[list[object]]]:
    """Make column names and rows, one per contrast, with shares of its blocks' intervals; the last row is the mean."""
    of = found.assign(contrast=found["condition"] + " − " + found["minus"])
    columns = {
        f"{SHOWN[metric]}: {words}": of[of["metric"] == metric].groupby("contrast")[column].mean()
        for metric in SCORED
        for column, words in HOLDS_IN_BLOCKS.items()
    }
    shares = pd.DataFrame(columns)
    shares.loc["all"] = shares.mean()
    return ["contrast", *shares], [[name, *map(float, row)] for name, *row in shares.itertuples()]


if __name__ == "__main__":
    main()
