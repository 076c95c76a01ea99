"""Causal indirect effect of heads: per trial, per relation (CIE), over relations (AIE). Spec sections 1 and 2.

CIE(q, layer, head) is the mean over q's trials of
log p(target | corrupted prompt, head's output := clean mean of q) - log p(target | corrupted prompt).
After Todd et al., "Function Vectors in Large Language Models" (ICLR 2024), section 3.1, on log probabilities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from fv.config import StatsConfig
from fv.data.relations import normalise
from fv.data.trial import Trial
from fv.interventions.engine import Engine, Head, LastToken
from fv.models.prompt import Prompt
from fv.progress import Advance
from fv.statistics.clusters import clusters_of, numbered, per_cluster
from fv.statistics.intervals import Estimates, estimate_means
from fv.statistics.multiplicity import q_values, sign_flip_max_t, two_sided_t

SCORES = ["mean_delta_logprob", "mean_delta_p"]
CIE_COLUMNS = ["q_id", "layer", "head", "n_trials", *SCORES]
AIE_COLUMNS = ["layer", "head", "n_qids", *SCORES]


@dataclass(frozen=True)
class TrialEffects:
    """Effects of patching each swept head, trial by trial.

    Attributes:
        delta_logprob: change in the target's log probability, in nats, (n_trials, n_layers, n_heads) float64; finite
            for swept heads, NaN for others.
        delta_p: change in the target's probability, of the same shape.
        queries: number of each trial's query, (n_trials,) int; None if every trial has a query of its own. Trials of
            one query are not independent, so intervals resample queries.
        only: mask of the swept heads, (n_layers, n_heads) bool; None for all.

    Raises:
        ValueError: an effect of a swept head is not finite.
    """

    delta_logprob: np.ndarray
    delta_p: np.ndarray
    queries: np.ndarray | None = None
    only: np.ndarray | None = None

    def __post_init__(self) -> None:
        for values in (self.delta_logprob, self.delta_p):
            if not np.isfinite(values[:, self.swept]).all():
                raise ValueError("an effect of a swept head is not finite")

    @classmethod
    def read(cls, delta_logprob: np.ndarray, delta_p: np.ndarray, queries: np.ndarray | None) -> "TrialEffects":
        """Build effects from the arrays of a file, in which a head that was not swept is NaN in every trial.

        Raises:
            ValueError: an effect of a head is not finite in some trials only.
        """
        return cls(delta_logprob, delta_p, queries, ~np.isnan(delta_logprob).all(0))

    @property
    def n_trials(self) -> int:
        return len(self.delta_logprob)

    @property
    def query_numbers(self) -> np.ndarray:
        """Number of each trial's query, (n_trials,) int: `queries`, or if that is None, a number for each trial."""
        return np.arange(self.n_trials) if self.queries is None else self.queries

    @property
    def n_queries(self) -> int:
        """Number of distinct queries, the units of resampling."""
        return len(np.unique(self.query_numbers))

    @property
    def swept(self) -> np.ndarray:
        """Mask of the swept heads, (n_layers, n_heads) bool."""
        return np.ones(self.delta_logprob.shape[1:], bool) if self.only is None else self.only

    def with_heads_of(self, other: "TrialEffects") -> "TrialEffects":
        """Add the effects of heads that only another sweep over the same trials has."""
        return TrialEffects(
            np.where(self.swept, self.delta_logprob, other.delta_logprob),
            np.where(self.swept, self.delta_p, other.delta_p),
            self.queries,
            self.swept | other.swept,
        )

    @classmethod
    def cat(cls, parts: Sequence["TrialEffects"]) -> "TrialEffects":
        """Concatenate effects of the same heads on several relations; queries are renumbered to stay distinct."""
        queries = None
        if any(e.queries is not None for e in parts):
            queries = numbered([(i, number) for i, e in enumerate(parts) for number in e.query_numbers.tolist()])
        logprob, p = (np.concatenate([getattr(e, name) for e in parts]) for name in ("delta_logprob", "delta_p"))
        return cls(logprob, p, queries, parts[0].only)


def query_numbers(trials: Sequence[Trial]) -> np.ndarray:
    """Number of each trial's query, (n_trials,) int: pairs that are equal in normal form share a number."""
    return numbered([tuple(map(normalise, trial.query)) for trial in trials])


def places_of(heads: Sequence[Head]) -> np.ndarray:
    """Indices of heads, (2, n_heads) int: their layers, and their numbers within the layer."""
    return np.fromiter(chain.from_iterable(heads), np.int64).reshape(-1, 2).T


def trial_effects(
    engine: Engine,
    corrupted: Sequence[Prompt],
    clean_mean: Tensor,
    heads: Sequence[Head],
    advance: Advance,
) -> tuple[TrialEffects, LastToken]:
    """Patch every head of `heads` in every corrupted prompt.

    Args:
        engine: the engine.
        corrupted: the relation's corrupted prompts.
        clean_mean: (n_layers, n_heads, head_dim).
        heads: the heads to sweep.
        advance: progress callback, called with the number of prompts done.

    Returns:
        the effects, and the run of the unedited corrupted prompts.
    """
    scores = engine.patch_heads(corrupted, clean_mean, heads, advance)
    n_layers, n_heads, _ = clean_mean.shape
    delta_logprob = (scores.patched - scores.unpatched).numpy()
    delta_p = (scores.patched.exp() - scores.unpatched.exp()).numpy()
    return effects_of_heads(delta_logprob, delta_p, heads, (n_layers, n_heads)), scores.unedited


def effects_of_heads(
    delta_logprob: np.ndarray,
    delta_p: np.ndarray,
    heads: Sequence[Head],
    shape: tuple[int, int],
    queries: np.ndarray | None = None,
) -> TrialEffects:
    """Spread effects of the swept heads, (n_trials, n_swept) each, over all heads of `shape` = (n_layers, n_heads)."""
    layer, head = places_of(heads)
    only = np.zeros(shape, bool)
    only[layer, head] = True
    whole = np.full((2, len(delta_p), *shape), np.nan)
    whole[:, :, layer, head] = delta_logprob, delta_p
    return TrialEffects(whole[0], whole[1], queries, only)


def cie_table(q_id: str, effects: TrialEffects) -> pd.DataFrame:
    """One relation's rows of `cie_scores.csv`: the swept heads, ordered by layer and head."""
    swept = effects.swept
    layer, head = np.nonzero(swept)
    return pd.DataFrame(
        {
            "q_id": q_id,
            "layer": layer,
            "head": head,
            "n_trials": effects.n_trials,
            "mean_delta_logprob": effects.delta_logprob[:, swept].mean(0),
            "mean_delta_p": effects.delta_p[:, swept].mean(0),
        }
    )[CIE_COLUMNS]


def aie_table(cie: pd.DataFrame, qids: Sequence[str] | None = None) -> pd.DataFrame:
    """Unweighted mean of CIE over relations (all, or the given ones), as rows of `aie_scores.csv`."""
    chosen = cie if qids is None else cie[cie["q_id"].isin(qids)]
    means = chosen.groupby(["layer", "head"], sort=True).agg(
        n_qids=("q_id", "nunique"), **{score: (score, "mean") for score in SCORES}
    )
    return means.reset_index()[AIE_COLUMNS]


def cie_stats(
    effects: dict[str, TrialEffects], stats: StatsConfig, seed: int, n_tests: int | None = None
) -> pd.DataFrame:
    """CIEs with intervals over queries, one row per (relation, layer, head, metric), as in `cie_stats.csv`.

    Args:
        effects: {q_id: effects trial by trial}.
        stats: level, resamples and method of intervals.
        seed: the run's seed.
        n_tests: number of heads that a screen chose the measured ones from; None if all heads were measured.

    Returns:
        the columns q_id, layer, head, metric, n_trials, n_queries, the mean with its interval and `p_positive`
        (`fv.statistics.intervals.Estimates`), and `q_value` and `p_maxt`, adjusted within each relation and metric
        (`adjusted`).
    """
    tables = []
    for q_id, found in effects.items():
        layer, head = np.nonzero(found.swept)
        for metric, values in zip(SCORES, (found.delta_logprob, found.delta_p), strict=True):
            units = per_cluster(values[:, found.swept].T, found.query_numbers)  # (n_swept, n_queries)
            where = {"q_id": q_id, "layer": layer, "head": head, "metric": metric}
            counts = {"n_trials": found.n_trials, "n_queries": units.shape[1]}
            estimates = estimate_means(units, stats, seed, "cie", q_id)
            tables.append(_stats_table(where | counts, estimates, adjusted(units, seed, "cie", q_id, n_tests=n_tests)))
    return pd.concat(tables, ignore_index=True)


def aie_stats(
    cie: pd.DataFrame,
    stats: StatsConfig,
    seed: int,
    clusters: Mapping[str, str] | None = None,
    n_tests: int | None = None,
) -> pd.DataFrame:
    """AIEs with intervals over clusters of relations, one row per (layer, head, metric), as in `aie_stats.csv`.

    Args:
        cie: rows of `cie_table`.
        stats: level, resamples and method of intervals.
        seed: the run's seed.
        clusters: {q_id: the relation's cluster}; a relation that is missing here is a cluster of its own.
        n_tests: number of heads that a screen chose the measured ones from; None if all heads were measured.

    Returns:
        the columns layer, head, metric, n_qids, n_clusters, the mean over relations with its interval (none for a
        single cluster), `p_positive`, `q_value` and `p_maxt` as in `cie_stats`, and `mean_rank`: the head's rank among
        the measured heads, averaged over relations. Rank 1 is the best by the metric; ties go to the lower layer and
        head. Relations with large effects dominate a mean of effects; in a mean of ranks each weighs the same.
    """
    tables = []
    for metric in SCORES:
        wide = cie.pivot(index=["layer", "head"], columns="q_id", values=metric).sort_index()
        values = wide.to_numpy()  # (n_heads, n_qids)
        units = per_cluster(values, clusters_of(wide.columns.tolist(), clusters))  # (n_heads, n_clusters)
        where = {name: wide.index.get_level_values(name).to_numpy() for name in ("layer", "head")}
        counts = {"metric": metric, "n_qids": values.shape[1], "n_clusters": units.shape[1]}
        estimates = estimate_means(units, stats, seed, "aie")
        table = _stats_table(where | counts, estimates, adjusted(units, seed, "aie", n_tests=n_tests))
        # The rank of each head in each relation.
        ranks = np.argsort(np.argsort(-values, axis=0, kind="stable"), axis=0) + 1
        tables.append(table.assign(mean_rank=ranks.mean(1)))
    return pd.concat(tables, ignore_index=True)


def adjusted(units: np.ndarray, seed: int, *purpose: object, n_tests: int | None = None) -> dict[str, np.ndarray]:
    """Two-sided tests that each head's mean is zero, adjusted for the number of tested heads.

    Args:
        units: values of independent units (queries or clusters), (n_heads, n_units).
        seed: the run's seed.
        purpose: labels of this use, which give it random draws of its own.
        n_tests: number of heads that a screen chose these from; None if these are all.

    Returns:
        `q_value`: Benjamini and Hochberg's, from Student's t; heads that were not measured count with p = 1.
        `p_maxt`: `sign_flip_max_t`; NaN if some heads were not measured, since the largest |t| over all heads is then
        unknown. Each is (n_heads,), and NaN with fewer than two units.
    """
    p_maxt = sign_flip_max_t(units, seed, *purpose)
    if n_tests is not None and n_tests > len(units):
        p_maxt = np.full(len(units), np.nan)
    return {"q_value": q_values(two_sided_t(units), n_tests), "p_maxt": p_maxt}


def _stats_table(where: Mapping[str, Any], estimates: Estimates, tests: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({**where, **estimates.columns(), "p_positive": estimates.p_positive, **tests})
