"""Stability of a ranking of heads, computed from effects trial by trial (docs/methods.md, "Stability of a ranking").

A ranking belongs to one relation, or to the mean over relations (AIE). For the AIE, trials are drawn within each
relation. Trials of the same query are always drawn together: where queries repeat, "trial" below means a query.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
import scipy  # loads its submodules, which are slow to import, at their first use

from fv.config import ScoreConfig, StatsConfig
from fv.files import JsonObject
from fv.heads.indirect_effect import TrialEffects
from fv.seeding import generator_for
from fv.statistics.clusters import per_cluster
from fv.statistics.intervals import estimate_means

N_DRAWS = 100
"""Random subsets of trials per point of the convergence curve."""
FEWEST_TRIALS = 4
"""Fewest distinct queries for a ranking to be called stable: two halves of at least two queries each."""


@dataclass(frozen=True)
class Convergence:
    """Agreement of the top k heads between random subsets of `n_trials` trials per relation.

    Attributes:
        n_trials: trials drawn per relation, without replacement.
        overlap_with_all: share of a subset's top k that is also in the top k of all trials; it reaches 1 at the end of
            the curve if all relations have equally many trials.
        overlap_apart: share of the top k that two disjoint subsets of `n_trials` trials have in common; None if a
            relation has fewer than 2 * `n_trials` trials.
        spearman_apart: rank correlation of all heads between the two subsets; None like `overlap_apart`.
        top_mean_choosing: mean score of the top k of the first subset, in that subset, so inflated by selection; None
            like `overlap_apart`.
        top_mean_apart: mean score of the same heads in the second subset, which did not select them; None likewise.
    """

    n_trials: int
    overlap_with_all: float
    overlap_apart: float | None
    spearman_apart: float | None
    top_mean_choosing: float | None
    top_mean_apart: float | None


@dataclass(frozen=True)
class Gap:
    """Difference in score between the k-th head and the heads ranked below it.

    Attributes:
        mean: score of the k-th head minus the score of the next one.
        ci_low: lower end of its interval.
        ci_high: upper end of its interval.
        n_within_error: number of heads below the k-th whose difference from it has an interval that contains zero.
    """

    mean: float
    ci_low: float
    ci_high: float
    n_within_error: int


class StabilityReport(TypedDict):
    """Stability of one ranking, as JSON.

    Attributes:
        n_trials: queries of the relation that has fewest.
        mean_inclusion: mean over the top k heads of the probability to be in a resample's top k.
        lowest_inclusion: the lowest of these probabilities.
        split_half: `Convergence` of the largest two disjoint subsets; None with too few trials.
        gap: `Gap` at k; None if there is none.
        convergence: `Convergence` at each number of trials.
    """

    n_trials: int
    mean_inclusion: float
    lowest_inclusion: float
    split_half: JsonObject | None
    gap: JsonObject | None
    convergence: list[JsonObject]


class StabilitySummary(TypedDict):
    """Stability of all rankings by `score_key` at k, as JSON: `ranking_stability.json`."""

    score_key: str
    k: int
    rankings: dict[str, StabilityReport]


TrialScores = Sequence[np.ndarray]
"""One array per relation: the effects of the swept heads, ordered by layer and head, (n_queries, n_heads)."""


def effects_of(effects: TrialEffects, key: str) -> np.ndarray:
    """Effects of the swept heads in the metric that `key` ranks by, (n_queries, n_heads).

    Each value is the query's contribution to the mean over trials: `fv.statistics.clusters.per_cluster`.
    """
    values = effects.delta_p if key == "mean_delta_p" else effects.delta_logprob
    return per_cluster(values[:, effects.swept].T, effects.query_numbers).T


def ranked(scores: np.ndarray) -> np.ndarray:
    """Indices of heads by descending score, ties by position: (..., n_heads) int."""
    return np.argsort(-scores, axis=-1, kind="stable")


def inclusion(effects: TrialScores, k: int, n_resamples: int, seed: int, *purpose: object) -> np.ndarray:
    """Probability, (n_heads,), that a head is among the top `k` when trials are drawn again with replacement."""
    rng = generator_for(seed, "inclusion", *purpose)
    scores = np.zeros((n_resamples, effects[0].shape[1]))
    for values in effects:
        n = len(values)
        # How often each trial is drawn: (n_resamples, n_trials).
        times = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
        scores += times @ values / n
    return _in_top(scores, k).sum(0) / n_resamples


def mean_scores(effects: TrialScores) -> np.ndarray:
    """The ranking's scores, (n_heads,): the mean over trials, then over relations."""
    return np.mean([values.mean(0) for values in effects], axis=0)


def convergence(effects: TrialScores, k: int, seed: int, *purpose: object) -> list[Convergence]:
    """Convergence curve over the number of trials per relation, from 2 up to the size of the smallest relation."""
    rng = generator_for(seed, "convergence", *purpose)
    most = min(len(values) for values in effects)
    everything = _in_top(mean_scores(effects), k)
    # Every size up to 12, then about a dozen more, and half of all trials.
    sizes = {*range(2, 13), *np.linspace(2, most, 12).round().astype(int).tolist(), most // 2}
    return [_point(effects, k, size, everything, rng) for size in sorted(sizes) if 2 <= size <= most]


def _point(effects: TrialScores, k: int, size: int, everything: np.ndarray, rng: np.random.Generator) -> Convergence:
    orders = [[rng.permutation(len(values)) for values in effects] for _ in range(N_DRAWS)]

    def scores(chosen: slice) -> np.ndarray:
        """Scores from the trials at places `chosen` of each draw's random order, (N_DRAWS, n_heads)."""
        means = []
        for i, values in enumerate(effects):
            taken = np.zeros((N_DRAWS, len(values)))
            np.put_along_axis(taken, np.stack([draw[i][chosen] for draw in orders]), 1, axis=-1)
            means.append(taken @ values / size)
        return np.mean(means, axis=0)

    one = scores(slice(size))
    top = _in_top(one, k)  # (N_DRAWS, n_heads)
    with_all = float((top & everything).sum(-1).mean() / k)
    if 2 * size > min(len(values) for values in effects):
        return Convergence(size, with_all, None, None, None, None)
    other = scores(slice(size, 2 * size))
    apart = float((top & _in_top(other, k)).sum(-1).mean() / k)
    top_means = (float(side[top].mean()) for side in (one, other))
    return Convergence(size, with_all, apart, float(_spearman(one, other).mean()), *top_means)


def other_half_means(values: np.ndarray, seed: int, *purpose: object) -> np.ndarray:
    """Mean effect of the head at each rank, on trials that did not do the ranking, (n_heads,).

    The trials are split into random halves, many times. One half ranks the heads, the other measures them. The head
    that all trials rank first gets the mean, over the measuring halves, of whichever head the ranking half put first,
    and so on down the ranking. A mean over all trials is too high for the heads that these trials rank first. The same
    head's own mean in the measuring halves would be too high as well: a head that leads among all trials was lucky in
    both halves. Half of the trials rank less well than all of them, so a top head may do better than this value. Both
    halves share the clean mean that is patched in.

    Args:
        values: effects, (n_trials, n_heads).
        seed: the run's seed.
        purpose: labels of this use, which give it random splits of its own.

    Returns:
        one mean per head, in the order of `values`; NaN for all heads if there is one trial only.
    """
    rng = generator_for(seed, "other_half", *purpose)
    n, n_heads = values.shape
    found = np.full(n_heads, np.nan)
    if n < 2:
        return found
    of_place = np.zeros(n_heads)
    for _ in range(N_DRAWS):
        order = rng.permutation(n)
        choosing, other = values[order[: n // 2]].mean(0), values[order[n // 2 :]].mean(0)
        of_place += other[ranked(choosing)]
    found[ranked(values.mean(0))] = of_place / N_DRAWS
    return found


def with_other_halves(stats: pd.DataFrame, effects: dict[str, TrialEffects], seed: int) -> pd.DataFrame:
    """Add the column `other_half_mean` to rows of `cie_stats`: `other_half_means` in each row's metric."""
    means = {}
    for key, rows in stats.groupby(["q_id", "metric"], sort=False):
        q_id, metric = map(str, key)
        found = other_half_means(effects_of(effects[q_id], metric), seed, q_id, metric)
        means[key] = pd.Series(found, index=rows.index)
    return stats.assign(other_half_mean=pd.concat(means.values()))


def _in_top(scores: np.ndarray, k: int) -> np.ndarray:
    """Mask of the heads that `ranked` puts among the first `k`: bool, of the shape of `scores`, (..., n_heads)."""
    k = min(k, scores.shape[-1])
    # A full sort would take several times as long.
    last = -np.partition(-scores, k - 1, axis=-1)[..., k - 1 : k]
    above, tied = scores > last, scores == last
    return above | (tied & (tied.cumsum(-1) <= k - above.sum(-1, keepdims=True)))


def _spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each pair of rows, (n,); 0 if all values of a row are equal."""
    varied = (np.ptp(one, -1) > 0) & (np.ptp(other, -1) > 0)
    found = np.zeros(len(one))
    if varied.any():
        ranks = (scipy.stats.rankdata(side[varied], axis=-1) for side in (one, other))
        found[varied] = scipy.stats.pearsonr(*ranks, axis=-1).statistic
    return found


def gap_at(effects: TrialScores, k: int, stats: StatsConfig, seed: int, *purpose: object) -> Gap | None:
    """Compare the k-th head with the heads below it; None if no head is below, or there is one trial only.

    For a ranking over several relations, the interval is over relations, since the ranking averages their CIEs.
    """
    order = ranked(mean_scores(effects))
    units = effects[0] if len(effects) == 1 else np.stack([values.mean(0) for values in effects])
    if k >= len(order) or len(units) < 2:
        return None
    differences = units[:, order[k - 1], None] - units[:, order[k:]]  # (n_units, n_heads - k)
    found = estimate_means(differences.T, stats, seed, "gap", *purpose)
    within = (found.ci_low <= 0) & (found.ci_high >= 0)
    return Gap(float(found.mean[0]), float(found.ci_low[0]), float(found.ci_high[0]), int(within.sum()))


def stability_report(
    effects: TrialScores, k: int, stats: StatsConfig, seed: int, name: str
) -> tuple[StabilityReport, np.ndarray]:
    """All stability measures of one ranking, as JSON, and the inclusion probability of each head, (n_heads,)."""
    chances = inclusion(effects, k, stats.n_resamples, seed, name)
    curve = convergence(effects, k, seed, name)
    gap = gap_at(effects, k, stats, seed, name)
    halves = [point for point in curve if point.overlap_apart is not None]
    top = ranked(mean_scores(effects))[:k]
    report: StabilityReport = {
        "n_trials": min(len(values) for values in effects),
        "mean_inclusion": float(chances[top].mean()),
        "lowest_inclusion": float(chances[top].min()),
        # The largest two disjoint subsets.
        "split_half": asdict(halves[-1]) if halves else None,
        "gap": asdict(gap) if gap else None,
        "convergence": [asdict(point) for point in curve],
    }
    return report, chances


def is_stable(effects: TrialEffects, score: ScoreConfig, seed: int) -> bool:
    """Tell whether the top-k heads recur often enough under resampling that no more trials need patching."""
    if effects.n_queries < FEWEST_TRIALS:
        return False
    values = [effects_of(effects, score.key.value)]
    chances = inclusion(values, score.k, 500, seed, "adaptive", effects.n_trials)
    return float(np.sort(chances)[-score.k :].mean()) >= score.adaptive_inclusion
