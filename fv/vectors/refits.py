"""Refits: function vectors rebuilt from resampled fit trials (docs/methods.md, "Refits").

A vector depends on the fit trials that happened to be drawn: they rank the heads and give the means. A refit resamples
their queries with replacement, ranks the heads by the effects of the drawn trials, and averages over their prompts. It
needs no run of the model. The spread of refits estimates how much vectors from other fit trials would differ.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from fv.heads.activations import PromptOutputs, mean_of_means, weighted_mean
from fv.heads.effects import Effects
from fv.heads.indirect_effect import TrialEffects
from fv.heads.ranking import Ranking
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.seeding import generator_for
from fv.vectors.function_vector import vector_of_heads
from fv.vectors.kinds import HeadsBy
from fv.vectors.vector import Vector

MOST_DRAWS = 1000
"""Number of failed draws in a row after which resampling is given up, since too few trials are patched."""


class Refit(NamedTuple):
    """One refit: its heads, its vector, and the vector of the same heads over corrupted prompts, (d_model,) each."""

    heads: tuple[Head, ...]
    vector: Tensor
    corrupted: Tensor


@dataclass(frozen=True)
class _FitTrials:
    """A relation's fit trials: effects on the patched trials, and head outputs on the averaged trials.

    Patched trials and averaged trials are each the first of all fit trials, so one set contains the other.
    """

    effects: TrialEffects
    outputs: PromptOutputs

    @property
    def queries(self) -> np.ndarray:
        """Number of each trial's query, (n_trials,) int."""
        patched, n_averaged = self.effects.query_numbers, len(self.outputs.clean)
        # Query numbers are below the number of patched trials. Averaged trials beyond the patched ones count as
        # queries of their own.
        return np.concatenate([patched, np.arange(len(patched), max(n_averaged, len(patched)))])

    def drawn(self, rng: np.random.Generator) -> np.ndarray | None:
        """Draw queries with replacement; returns each trial's number of draws, (n_trials,) int.

        None if no draw contains both a patched and an averaged trial.
        """
        _, numbers = np.unique(self.queries, return_inverse=True)
        n = numbers.max() + 1
        for _ in range(MOST_DRAWS):
            times = rng.multinomial(n, np.full(n, 1 / n))[numbers]
            if times[: self.effects.n_trials].any() and times[: len(self.outputs.clean)].any():
                return times
        return None

    def scores(self, key: str, times: np.ndarray) -> np.ndarray:
        """Mean effect of each head over the drawn trials, (n_layers, n_heads); NaN for heads not measured."""
        values = self.effects.delta_p if key == "mean_delta_p" else self.effects.delta_logprob
        weights = times[: len(values)]
        return np.tensordot(weights / weights.sum(), values, axes=1)


def refits(
    lm: LanguageModel, effects: Effects, vector: Vector, ranking: Ranking, count: int, seed: int
) -> Iterator[Refit]:
    """Rebuild a vector from resampled fit trials; yields nothing if the vector's heads or prompts are not known.

    A vector of its relation's own best heads is rebuilt from the best heads of the drawn trials. For a vector of the
    AIE's heads, trials of every relation are drawn. A vector of named heads keeps them.

    Args:
        lm: the model.
        effects: effects of all relations, with the head outputs of their prompts.
        vector: the vector.
        ranking: the ranking that chose its heads.
        count: number of refits.
        seed: the run's seed.
    """
    k, q_id, kind = vector.k or ranking.k, vector.source_qid, vector.made_as
    if not kind.has_heads or (q_id is not None and q_id not in effects):
        return
    by_aie = kind.heads_by is HeadsBy.aie
    ranked = effects.qids if by_aie or q_id is None else [q_id]
    if by_aie and ranking.leave_one_out:
        ranked = [other for other in ranked if other != q_id]
    averaged = effects.qids if q_id is None else [q_id]
    trials = {q: _fit_trials(effects, q) for q in {*ranked, *averaged}}
    if any(own is None for own in trials.values()):
        return
    for number in range(count):
        drawn = {}
        for q, own in sorted(trials.items()):
            assert own is not None
            times = own.drawn(generator_for(seed, "refit", q, number))
            if times is None:
                return
            drawn[q] = own, times
        if kind.heads_by is HeadsBy.named:
            heads = vector.heads
        else:
            score = np.mean([drawn[q][0].scores(ranking.key, drawn[q][1]) for q in ranked], axis=0)
            heads = tuple(best_heads(score, k))
        clean, corrupted = (_mean(name, (drawn[q] for q in averaged)) for name in ("clean", "corrupted"))
        yield Refit(heads, vector_of_heads(lm, clean, heads), vector_of_heads(lm, corrupted, heads))


def best_heads(score: np.ndarray, k: int) -> list[Head]:
    """The `k` heads with the highest score, best first, ties to the lower layer and head.

    Args:
        score: (n_layers, n_heads); heads with NaN are left out.
        k: number of heads.
    """
    order = np.argsort(-score, axis=None, kind="stable")[: min(k, int((~np.isnan(score)).sum()))]  # NaN is last
    layers, heads = np.unravel_index(order, score.shape)
    return [Head(layer, head) for layer, head in zip(layers.tolist(), heads.tolist(), strict=True)]


def _fit_trials(effects: Effects, q_id: str) -> _FitTrials | None:
    """Fit trials of a relation; None if its head outputs were not kept, or its effects not measured."""
    outputs = effects.means[q_id].prompts
    return None if outputs is None or q_id not in effects.effects else _FitTrials(effects.effects[q_id], outputs)


def _mean(name: str, drawn: Iterable[tuple[_FitTrials, np.ndarray]]) -> Tensor:
    """Unweighted mean over relations of the drawn trials' mean head outputs, (n_layers, n_heads, head_dim)."""
    means = []
    for own, times in drawn:
        outputs: Tensor = getattr(own.outputs, name)
        means.append(weighted_mean(outputs, times[: len(outputs)].astype(np.float64)))
    return means[0] if len(means) == 1 else mean_of_means(means)
