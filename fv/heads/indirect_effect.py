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
from fv.data.snapshot import Trial
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
        delta_logprob: (n_trials, n_layers, n_heads) float64: finite where swept, NaN elsewhere.
        delta_p: the same in probability.
        queries: (n_trials,) int, the number of each trial's query; None where each trial has one of its own. Trials of
            one query are not independent, so intervals resample queries.
        only: which heads were swept, (n_layers, n_heads) bool; None for all.

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
                raise ValueError("an effect of a head that was swept is not finite")

    @classmethod
    def read(cls, delta_logprob: np.ndarray, delta_p: np.ndarray, queries: np.ndarray | None) -> "TrialEffects":
        """Effects as files have them: a head that is NaN in every trial was not swept.

        Raises:
            ValueError: one is not finite in some trials.
        """
        return cls(delta_logprob, delta_p, queries, ~np.isnan(delta_logprob).all(0))

    @property
    def n_trials(self) -> int:
        return len(self.delta_logprob)

    @property
    def query_numbers(self) -> np.ndarray:
        """`queries`, or a number for each trial: (n_trials,) int."""
        return np.arange(self.n_trials) if self.queries is None else self.queries

    @property
    def n_queries(self) -> int:
        """Different queries, which are what is resampled."""
        return len(np.unique(self.query_numbers))

    @property
    def swept(self) -> np.ndarray:
        """Which heads were patched, (n_layers, n_heads) bool."""
        return np.ones(self.delta_logprob.shape[1:], bool) if self.only is None else self.only

    def with_heads_of(self, other: "TrialEffects") -> "TrialEffects":
        """Effects of these heads, and on the same trials of the heads of another sweep that are not among them."""
        return TrialEffects(
            np.where(self.swept, self.delta_logprob, other.delta_logprob),
            np.where(self.swept, self.delta_p, other.delta_p),
            self.queries,
            self.swept | other.swept,
        )

    @classmethod
    def cat(cls, parts: Sequence["TrialEffects"]) -> "TrialEffects":
        """Effects of several relations on the same heads; no query of one has the number of another's."""
        queries = None
        if any(e.queries is not None for e in parts):
            queries = numbered([(i, number) for i, e in enumerate(parts) for number in e.query_numbers.tolist()])
        logprob, p = (np.concatenate([getattr(e, name) for e in parts]) for name in ("delta_logprob", "delta_p"))
        return cls(logprob, p, queries, parts[0].only)


def query_numbers(trials: Sequence[Trial]) -> np.ndarray:
    """Numbers, (n_trials,) int, of trials' queries: pairs that are the same in normal form have one."""
    return numbered([tuple(map(normalise, trial.query)) for trial in trials])


def places_of(heads: Sequence[Head]) -> np.ndarray:
    """The layers of heads and their numbers there, (2, n_heads) int."""
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
        advance: progress callback, called with prompts done.

    Returns:
        the effects, and the corrupted prompts as they are.
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
    """Effects of some heads, (n_trials, n_swept) each, among all of `shape`, (n_layers, n_heads)."""
    layer, head = places_of(heads)
    only = np.zeros(shape, bool)
    only[layer, head] = True
    whole = np.full((2, len(delta_p), *shape), np.nan)
    whole[:, :, layer, head] = delta_logprob, delta_p
    return TrialEffects(whole[0], whole[1], queries, only)


def cie_table(q_id: str, effects: TrialEffects) -> pd.DataFrame:
    """One relation's rows of `cie_scores.csv`, the swept heads by layer and head."""
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
    """Each CIE with its interval over queries: one row a (relation, layer, head, metric), as in `cie_stats.csv`.

    Args:
        effects: {q_id: effects trial by trial}.
        stats: level, resamples and method.
        seed: the run's seed.
        n_tests: how many heads could have been measured, where only those are that a screen chose; None for all.

    Returns:
        q_id, layer, head, metric, n_trials, n_queries, the mean with its interval, `p_positive`
        (`fv.statistics.intervals.Estimates`), and `q_value` and `p_maxt`, by relation and metric: `adjusted`.
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
    """Each AIE with its interval over clusters of relations: one row a (layer, head, metric), as in `aie_stats.csv`.

    Args:
        cie: rows of `cie_table`.
        stats: level, resamples and method.
        seed: the run's seed.
        clusters: {q_id: the cluster that a relation belongs to}; one that is not named is a cluster of its own.
        n_tests: as of `cie_stats`.

    Returns:
        layer, head, metric, n_qids, n_clusters, the mean over relations with its interval (none for a single cluster),
        `p_positive`, `q_value` and `p_maxt` as in `cie_stats`, and `mean_rank`: the head's rank among those measured,
        1 being the best by the metric and ties going to the lower layer and head, averaged over relations. Relations
        of large effects lead a mean of effects; each weighs the same in a mean of ranks.
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
        # The place of each head in each relation's order.
        ranks = np.argsort(np.argsort(-values, axis=0, kind="stable"), axis=0) + 1
        tables.append(table.assign(mean_rank=ranks.mean(1)))
    return pd.concat(tables, ignore_index=True)


def adjusted(units: np.ndarray, seed: int, *purpose: object, n_tests: int | None = None) -> dict[str, np.ndarray]:
    """Tests of whether each head's mean is zero, two-sided, adjusted for how many heads are tested.

    Args:
        units: (n_heads, n_units), the units being independent.
        seed: the run's seed.
        purpose: what is tested.
        n_tests: how many heads could have been measured; None for these.

    Returns:
        `q_value`: Benjamini and Hochberg's, of Student's t, a head that was not measured having a p of 1. `p_maxt`:
        `sign_flip_max_t`; NaN where heads were not measured, since the largest |t| of all heads is then unknown. Each
        is (n_heads,), and NaN with fewer than two units.
    """
    p_maxt = sign_flip_max_t(units, seed, *purpose)
    if n_tests is not None and n_tests > len(units):
        p_maxt = np.full(len(units), np.nan)
    return {"q_value": q_values(two_sided_t(units), n_tests), "p_maxt": p_maxt}


def _stats_table(where: dict[str, Any], estimates: Estimates, tests: dict[str, np.ndarray]) -> pd.DataFrame:
    return pd.DataFrame({**where, **estimates.columns(), "p_positive": estimates.p_positive, **tests})
