"""Compare refits with other fit trials: `python -m benchmarks.refits`.

A relation's eval queries are set aside once. Fit trials are drawn from all other pairs with several seeds. Each seed
gives a vector, and all vectors are injected into the same test trials, at the cell that the first seed's dev trials
choose. Refits of one seed's fit trials should reproduce the standard deviation of the vectors' mean effects. Seeds draw
from the same pairs and share some of them, which makes their spread slightly smaller.

With `--whole`, every seed is a run of its own, with its own test trials and cells, and the intervals that contain the
mean of the other runs are counted.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

import fv
from benchmarks.coverage import print_table
from fv.data.relations import Pair
from fv.data.trials import Trials
from fv.evaluation.dev_choice import DevChoice
from fv.evaluation.grid import eval_parts
from fv.evaluation.questions import RelationPrompts
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Cell
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.vectors.function_vector import vector_of_heads
from fv.vectors.options import Injected
from fv.vectors.refits import refits
from fv.vectors.stream import Stream

RELATIONS = ("country_capital", "antonym", "english_french")
DEMOS, FIT, N_EVAL, DEV, N_REFITS = 10, 36, 30, 0.3, 20
GRID = [Cell(layer, alpha) for layer in (8, 11, 14, 17, 20) for alpha in (0.25, 0.5, 1.0, 2.0)]
KEY = "mean_delta_logprob"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--relations", nargs="+", default=list(RELATIONS))
    parser.add_argument("--seeds", type=int, default=6, help="number of draws of fit trials")
    parser.add_argument("--ks", nargs="+", type=int, default=[10, 20], help="numbers of heads")
    parser.add_argument("--whole", action="store_true", help="a run of its own for every seed")
    args = parser.parse_args()
    lm, seeds = fv.load_model("smollm2"), range(1, args.seeds + 1)
    if args.whole:
        return print_table(*whole_runs(lm, args.relations, seeds, args.ks[-1]))
    print(f"{args.seeds} draws of {FIT} fit trials, {N_REFITS} refits of each; standard deviations in nats.\n")
    return print_table(*spreads(lm, args.relations, seeds, args.ks))


def spreads(
    lm: LanguageModel, relations: Sequence[str], seeds: Sequence[int], ks: Sequence[int]
) -> tuple[list[str], list[list[object]]]:
    """Measure the spread over seeds and over refits, of the effect and of the effect minus corrupted."""
    header = [
        "relation",
        "k",
        "mean",
        "over seeds",
        "refits",
        "ratio",
        "minus corrupted",
        "over seeds",
        "refits",
        "ratio",
    ]
    rows: list[list[object]] = []
    ratios: list[tuple[float, float]] = []
    for name in relations:
        effects, prompts = measured(lm, name, seeds)
        for k in ks:
            found = list(_spread(lm, name, effects, prompts, k))
            ratios.append((found[3], found[7]))
            rows.append([name, str(k), *(f"{value:.2f}" for value in found)])
    level, corrupted = np.exp(np.log(ratios).mean(0))
    return header, [*rows, ["geometric mean", *[""] * 4, f"{level:.2f}", *[""] * 3, f"{corrupted:.2f}"]]


def measured(lm: LanguageModel, name: str, seeds: Sequence[int]) -> tuple[list[Effects], RelationPrompts]:
    """Measure the effects of each seed's fit trials, and make eval trials that none of the seeds has seen."""
    pairs = list(fv.read_relations(names=[name])[name].pairs)
    held_out = fv.sample_trials({name: pairs}, lm, demos=DEMOS, fit=FIT, held_out=N_EVAL, seed=0)
    aside = {trial.query for trial in held_out[name].held_out}
    left: list[Pair] = [pair for pair in pairs if pair not in aside]
    found = []
    for seed in track(seeds, name, console=Console(stderr=True)):
        trials = fv.sample_trials({name: left}, lm, demos=DEMOS, fit=FIT, held_out=0, seed=seed)
        found.append(fv.indirect_effects(lm, trials, compute=fv.Compute(progress=False)))
    parts = eval_parts(held_out.snapshot, [name], None, DEV, 0)
    return found, RelationPrompts.of(lm, held_out.snapshot, name, parts)


def _spread(
    lm: LanguageModel, name: str, every: Sequence[Effects], prompts: RelationPrompts, k: int
) -> Iterator[float]:
    engine, ranking = make_engine(lm, "auto", 512), Ranking(KEY, k)
    first = fv.function_vector(lm, every[0][name], k=k)
    stream = Stream()
    option = DevChoice(engine, prompts.dev, stream).best([Injected(first.values, GRID[0], GRID)])[0]
    groups: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[]]
    for effects in every:
        vector = fv.function_vector(lm, effects[name], k=k)
        groups[0].append((vector.values, vector_of_heads(lm, effects.means_of(name).corrupted, vector.heads)))
        groups.append([each[1:] for each in refits(lm, effects, vector, ranking, N_REFITS, 0)])
    both = [each for group in groups for pair in group for each in pair]
    edits = [None, *(Injected(values, GRID[0]).edit(option, stream) for values in both)]
    means = engine.target_logprobs(prompts.test["zero_shot"], edits).mean(0).numpy()
    changes = iter((means[1:] - means[0]).reshape(-1, 2))  # (n_vectors, 2): the vector's and the corrupted one's
    levels = [np.array(list(itertools.islice(changes, len(group)))) for group in groups]
    for values in ([level[:, 0] for level in levels], [level[:, 0] - level[:, 1] for level in levels]):
        over_seeds = values[0].std(ddof=1)
        of_refits = np.sqrt(np.mean([own.var(ddof=1) for own in values[1:]]))
        yield from (values[0].mean(), over_seeds, of_refits, of_refits / over_seeds)


def whole_runs(
    lm: LanguageModel, relations: Sequence[str], seeds: Sequence[int], k: int
) -> tuple[list[str], list[list[object]]]:
    """Make the intervals of whole runs, and count those that contain the mean of the other seeds."""
    rows: list[list[object]] = []
    for name in relations:
        found = []
        for seed in track(seeds, name, console=Console(stderr=True)):
            trials: Trials = fv.sample_trials(
                fv.read_relations(names=[name]), lm, demos=DEMOS, fit=FIT, held_out=N_EVAL, seed=seed
            )
            effects = fv.indirect_effects(lm, trials, compute=fv.Compute(progress=False))
            vector = fv.function_vector(lm, effects[name], k=k)
            layers, alphas = (sorted({*values}) for values in zip(*GRID, strict=True))
            result = fv.evaluate(
                lm,
                vector,
                trials[name],
                layers=layers,
                alphas=alphas,
                controls=["refits", "corrupted_prompts"],
                effects=effects,
                n_unrelated=0,
                compute=fv.Compute(progress=False),
            )
            found.append(result.tables["headline"].iloc[0])
        for column in ("delta_logprob", "minus_corrupted"):
            means = np.array([row[column] for row in found])
            others = (means.sum() - means) / (len(means) - 1)
            low, high = (np.array([row[f"{column}_ci_{end}"] for row in found]) for end in ("low", "high"))
            holds = int(((low <= others) & (others <= high)).sum())
            shown = " ".join(f"{mean:.2f} [{a:.2f}, {b:.2f}]" for mean, a, b in zip(means, low, high, strict=True))
            rows.append([name, column, f"{holds} of {len(means)}", shown])
    return ["relation", "number", "hold the others' mean", "each seed"], rows


if __name__ == "__main__":
    main()
