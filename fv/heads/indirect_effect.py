"""Causal indirect effect of heads: per trial, per relation (CIE), over relations (AIE). Spec sections 1 and 2.

CIE(q, layer, head) is the mean over q's trials of
log p(target | corrupted prompt, head's output := clean mean of q) - log p(target | corrupted prompt).
After Todd et al., "Function Vectors in Large Language Models" (ICLR 2024), section 3.1, on log probabilities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from fv.config import StatsConfig
from fv.interventions.engine import Advance, Engine, Head, LastToken
from fv.models.prompt import Prompt
from fv.statistics.intervals import Estimates, estimate_means

SCORES = ["mean_delta_logprob", "mean_delta_p"]
CIE_COLUMNS = ["q_id", "layer", "head", "n_trials", *SCORES]
AIE_COLUMNS = ["layer", "head", "n_qids", *SCORES]


@dataclass(frozen=True)
class TrialEffects:
    """Effects of patching each swept head, trial by trial.

    Attributes:
        delta_logprob: (n_trials, n_layers, n_heads) float64, NaN where not swept.
        delta_p: the same in probability.
    """

    delta_logprob: np.ndarray
    delta_p: np.ndarray

    @property
    def n_trials(self) -> int:
        return len(self.delta_logprob)

    @property
    def numbered_queries(self) -> np.ndarray:
        """The number of each trial's query, (n_trials,)."""
        queries = getattr(self, "queries", None)
        return np.arange(self.n_trials) if queries is None else queries

    @property
    def swept(self) -> np.ndarray:
        """Which heads were patched, (n_layers, n_heads) bool."""
        return ~np.isnan(self.delta_logprob[0])

    def with_heads_of(self, other: "TrialEffects") -> "TrialEffects":
        """Effects of these heads, and on the same trials of the heads of another sweep that are not among them."""
        return TrialEffects(
            np.where(self.swept, self.delta_logprob, other.delta_logprob),
            np.where(self.swept, self.delta_p, other.delta_p),
        )

    @classmethod
    def cat(cls, parts: Sequence["TrialEffects"]) -> "TrialEffects":
        return cls(np.concatenate([e.delta_logprob for e in parts]), np.concatenate([e.delta_p for e in parts]))


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
    layer, head = places_of(heads)
    delta_logprob, delta_p = np.full((2, len(corrupted), n_layers, n_heads), np.nan)
    delta_logprob[:, layer, head] = (scores.patched - scores.unpatched).numpy()
    delta_p[:, layer, head] = (scores.patched.exp() - scores.unpatched.exp()).numpy()
    return TrialEffects(delta_logprob, delta_p), scores.unedited


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


def cie_stats(effects: dict[str, TrialEffects], stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Each CIE with its interval over trials: one row a (relation, layer, head, metric), as in `cie_stats.csv`.

    `p_positive`: `fv.statistics.intervals.Estimates`.
    """
    tables = []
    for q_id, found in effects.items():
        layer, head = np.nonzero(found.swept)
        values = np.concatenate([found.delta_logprob[:, found.swept], found.delta_p[:, found.swept]], 1)
        estimates = estimate_means(values.T, stats, seed, "cie", q_id)
        where = {"q_id": q_id, "layer": np.tile(layer, 2), "head": np.tile(head, 2)}
        tables.append(_stats_table(where, np.repeat(SCORES, len(layer)), "n_trials", estimates))
    return pd.concat(tables, ignore_index=True)


def aie_stats(cie: pd.DataFrame, stats: StatsConfig, seed: int) -> pd.DataFrame:
    """Each AIE with its interval over relations: one row a (layer, head, metric), as in `aie_stats.csv`."""
    tables = []
    for metric in SCORES:
        wide = cie.pivot(index=["layer", "head"], columns="q_id", values=metric).sort_index()
        estimates = estimate_means(wide.to_numpy(), stats, seed, "aie")
        where = {name: wide.index.get_level_values(name).to_numpy() for name in ("layer", "head")}
        tables.append(_stats_table(where, np.repeat(metric, len(wide)), "n_qids", estimates))
    return pd.concat(tables, ignore_index=True)


def _stats_table(where: dict[str, Any], metric: np.ndarray, count: str, estimates: Estimates) -> pd.DataFrame:
    table = pd.DataFrame({**where, "metric": metric, count: estimates.n})
    return table.assign(**estimates.columns(), p_positive=estimates.p_positive)
