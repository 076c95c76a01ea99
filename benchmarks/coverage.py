"""Measure the coverage of the intervals of `fv.statistics`, for the table of docs/methods.md.

Normal, heavy-tailed and skewed values, crossed draws and repeated queries are simulated. Proportions and their paired
differences are enumerated over all outcomes; their coverage is the smallest over a grid of probabilities.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy.stats import binom, multinomial, norm, ttest_1samp

from fv.config import StatsConfig
from fv.statistics.clusters import per_cluster
from fv.statistics.grouped import grouped_means
from fv.statistics.intervals import Kind, adjusted_wald, clopper_pearson, estimate_means

SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 14, 20, 30)
DRAWS = (2, 3, 5, 20)
EFFECTS = {"trials = draws": (1.0, 1.0, 0.5), "mostly trials": (1.0, 0.2, 0.5), "mostly draws": (0.2, 1.0, 0.5)}
"""Standard deviations of the effects of trials, of draws, and of their interaction."""
QUERIES = (4, 6, 8, 12, 20)
REPEATS = {"3 trials each": (3,), "1 to 5 trials": (1, 2, 3, 4, 5)}
"""Numbers of trials of each query, repeated in this order."""
LEVEL = 0.95
STATS = StatsConfig(confidence=LEVEL)
Ends = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the repetitions")
    n_times = 500 if parser.parse_args().quick else 10_000
    print(f"Coverage of {LEVEL:.0%} intervals, in per cent; simulations have {n_times:,} repetitions.\n")
    print_table(["n", *ROWS], ([n, *(cover(n, n_times) for cover in ROWS.values())] for n in SIZES))
    print()
    names = [f"{draws} draws" for draws in DRAWS]
    rows = (
        [f"{n}, {name}", *(crossed(n, draws, sd, n_times // 10) for draws in DRAWS)]
        for name, sd in EFFECTS.items()
        for n in (6, 14, 30)
    )
    print_table(["trials, variance", *names], rows)
    print()
    names = [f"{name}, {way}" for name in REPEATS for way in ("by trial", "by query")]
    print_table(
        ["queries", *names],
        ([n, *(share for repeats in REPEATS.values() for share in repeated(n, repeats, n_times))] for n in QUERIES),
    )


def simulated(draw: Callable[..., np.ndarray], truth: float, n: int, n_times: int) -> float:
    """Simulate the coverage of the interval of `n` values."""
    found = estimate_means(draw(np.random.default_rng(n), n_times, n), STATS, 0)
    return covered((found.ci_low, found.ci_high), truth)


def students(draw: Callable[..., np.ndarray], truth: float, n: int, n_times: int) -> float:
    """Simulate the coverage of Student's t interval of the same values."""
    ends = ttest_1samp(draw(np.random.default_rng(n), n_times, n), 0, axis=1).confidence_interval(LEVEL)
    return covered((ends.low, ends.high), truth)


def covered(ends: Ends, truth: float) -> float:
    """Share of intervals that contain the truth."""
    return float(((ends[0] <= truth) & (truth <= ends[1])).mean())


def normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw normal values with a mean of 0."""
    return rng.normal(size=shape)


def students_three(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw values with a mean of 0 and heavy tails: Student's t with 3 degrees of freedom."""
    return rng.standard_t(3, size=shape)


def contaminated(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw normal values with a mean of 0; one in ten has ten times the standard deviation."""
    return rng.normal(size=shape) * np.where(rng.random(shape) < 0.1, 10.0, 1.0)


def exponential(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Draw skewed values with a mean of 1."""
    return rng.exponential(size=shape)


def proportions(n: int, _times: int) -> float:
    """Smallest coverage of a proportion over all probabilities."""
    p = np.linspace(0.001, 0.999, 999)[:, None]
    low, high = clopper_pearson(np.arange(n + 1), n, LEVEL)
    return float((binom.pmf(np.arange(n + 1), n, p) * ((low <= p) & (p <= high))).sum(1).min())


def paired(n: int, _times: int) -> float:
    """Smallest coverage of a paired difference over all probabilities of better and worse."""
    return _smallest(n, adjusted_wald)


def bonett_price(n: int, _times: int) -> float:
    """Smallest coverage of Bonett and Price's own interval, with one added trial per sign and a normal quantile."""

    def interval(differences: np.ndarray, level: float) -> Ends:
        total = n + 2
        centre = differences.sum(-1) / total
        half = norm.ppf((1 + level) / 2) * np.sqrt((((differences**2).sum(-1) + 2) / total - centre**2) / total)
        return centre - half, centre + half

    return _smallest(n, interval)


def _smallest(n: int, interval: Callable[[np.ndarray, float], Ends]) -> float:
    counts = np.array([(x, y) for x in range(n + 1) for y in range(n + 1 - x)])
    at = np.arange(n)
    better = at < counts[:, :1]
    worse = ~better & (at < counts.sum(1)[:, None])
    low, high = interval(better * 1.0 - worse, LEVEL)
    outcomes = np.column_stack([counts, n - counts.sum(1)])
    found = 1.0
    for a, b in _probabilities():
        held = (low <= a - b + 1e-12) & (a - b - 1e-12 <= high)
        found = min(found, float(multinomial.pmf(outcomes, n, [a, b, max(0.0, 1 - a - b)])[held].sum()))
    return found


def _probabilities() -> Iterator[tuple[float, float]]:
    grid = np.linspace(0, 1, 51)
    return ((a, b) for a in grid for b in grid if a + b <= 1)


def crossed(n_trials: int, n_draws: int, sd: tuple[float, float, float], n_times: int) -> float:
    """Simulate the coverage of a mean over trials and draws."""
    rng = np.random.default_rng([n_trials, n_draws])
    shapes = (n_times, 1, n_trials), (n_times, n_draws, 1), (n_times, n_draws, n_trials)
    x = sum(scale * rng.normal(size=shape) for scale, shape in zip(sd, shapes, strict=True))
    group, draw, trial = (index.ravel() for index in np.indices(shapes[2]))
    rows = pd.DataFrame({"group": group, "draw": draw, "trial": trial, "all_draws": False, "x": np.ravel(x)})
    found = grouped_means(rows, ["group"], {"x": Kind.mean}, "trial", STATS, 0, draw="draw")
    return covered((found["ci_low"].to_numpy(), found["ci_high"].to_numpy()), 0.0)


def repeated(n_queries: int, repeats: tuple[int, ...], n_times: int) -> tuple[float, float]:
    """Simulate the coverage of a mean over trials that share queries, by trial and by query.

    Half of the variance is the query's.
    """
    rng = np.random.default_rng([n_queries, *repeats])
    queries = np.repeat(np.arange(n_queries), np.resize(repeats, n_queries))
    values = rng.normal(size=(n_times, n_queries))[:, queries] + rng.normal(size=(n_times, len(queries)))
    found = (estimate_means(units, STATS, 0) for units in (values, per_cluster(values, queries)))
    by_trial, by_query = (covered((each.ci_low, each.ci_high), 0.0) for each in found)
    return by_trial, by_query


ROWS: dict[str, Callable[[int, int], float]] = {
    "normal": lambda n, times: simulated(normal, 0.0, n, times),
    "t, 3 degrees": lambda n, times: simulated(students_three, 0.0, n, times),
    "contaminated": lambda n, times: simulated(contaminated, 0.0, n, times),
    "exponential": lambda n, times: simulated(exponential, 1.0, n, times),
    "exponential, Student's t": lambda n, times: students(exponential, 1.0, n, times),
    "proportion, smallest": proportions,
    "paired difference, smallest": paired,
    "Bonett and Price's own": bonett_price,
}


def print_table(names: list[str], rows: Iterator[list[object]] | list[list[object]]) -> None:
    """Print a table as Markdown, shares in per cent."""
    print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
    for row in rows:
        cells = (f"{100 * cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row)
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
