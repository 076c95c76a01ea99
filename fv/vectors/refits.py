"""Refits: a function vector made again from resampled fit trials (docs/methods.md, "Refits").

Fit trials that happened to be drawn choose the heads and make the means. A refit draws them again with replacement, by
their queries, ranks the heads by the effects of the trials drawn, and takes the means over their prompts. Nothing is
run for it. Its spread reproduces how vectors of other fit trials differ.
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
from fv.vectors.vector import Vector

MOST_DRAWS = 1000
"""Draws in a row without any patched trial among them, after which there are too few trials to resample."""


class Refit(NamedTuple):
    """One refit: the vector, and what the same heads make of corrupted prompts, (d_model,) each."""

    heads: tuple[Head, ...]
    vector: Tensor
    corrupted: Tensor


@dataclass(frozen=True)
class _FitTrials:
    """A relation's fit trials: how heads act on those that are patched, and the outputs of those that are averaged;
    both are the first so many of all."""

    effects: TrialEffects
    outputs: PromptOutputs

    @property
    def queries(self) -> np.ndarray:
        """The number of each trial's query, (n_trials,)."""
        patched, n_averaged = self.effects.query_numbers, len(self.outputs.clean)
        # Numbers are below that of the trials: averaged trials beyond the patched ones count as queries of their own.
        return np.concatenate([patched, np.arange(len(patched), max(n_averaged, len(patched)))])

    def drawn(self, rng: np.random.Generator) -> np.ndarray | None:
        """How often each trial is drawn, (n_trials,), where queries are drawn with replacement; None where no draw has
        both a patched and an averaged trial."""
        _, numbers = np.unique(self.queries, return_inverse=True)
        n = numbers.max() + 1
        for _ in range(MOST_DRAWS):
            times = rng.multinomial(n, np.full(n, 1 / n))[numbers]
            if times[: self.effects.n_trials].any() and times[: len(self.outputs.clean)].any():
                return times
        return None

    def scores(self, key: str, times: np.ndarray) -> np.ndarray:
        """The mean effect of each head over the trials drawn, (n_layers, n_heads); NaN where it was not measured."""
        values = self.effects.delta_p if key == "mean_delta_p" else self.effects.delta_logprob
        weights = times[: len(values)]
        return np.tensordot(weights / weights.sum(), values, axes=1)


def refits(
    lm: LanguageModel, effects: Effects, vector: Vector, ranking: Ranking, count: int, seed: int
) -> Iterator[Refit]:
    """Make a vector again from resampled fit trials; none where it is not known what it was made of.

    A vector of its relation's own best heads takes the best heads of the trials drawn. One of the AIE's heads draws the
    trials of every relation. One whose heads were named keeps them.

    Args:
        lm: the model.
        effects: of all relations, with the head outputs of their prompts.
        vector: the vector.
        ranking: how its heads were ranked.
        count: how many.
        seed: the run's seed.
    """
    k, q_id, kind = vector.k or ranking.k, vector.source_qid, vector.kind
    if kind == "file" or (q_id is not None and q_id not in effects):
        return
    ranked = [q_id] if kind in ("qid", "heads") and q_id is not None else effects.qids
    if kind == "aie_qid" and ranking.leave_one_out:
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
        if kind == "heads":
            heads = vector.heads
        else:
            score = np.mean([drawn[q][0].scores(ranking.key, drawn[q][1]) for q in ranked], axis=0)
            heads = tuple(best_heads(score, k))
        clean, corrupted = (_mean(name, (drawn[q] for q in averaged)) for name in ("clean", "corrupted"))
        yield Refit(heads, vector_of_heads(lm, clean, heads), vector_of_heads(lm, corrupted, heads))


def best_heads(score: np.ndarray, k: int) -> list[Head]:
    """The `k` heads of the highest score, (n_layers, n_heads), best first, ties to the lower layer and head; those that
    have none (NaN) are left out."""
    order = np.argsort(-score, axis=None, kind="stable")[: min(k, int((~np.isnan(score)).sum()))]  # NaN is last
    layers, heads = np.unravel_index(order, score.shape)
    return [Head(layer, head) for layer, head in zip(layers.tolist(), heads.tolist(), strict=True)]


def _fit_trials(effects: Effects, q_id: str) -> _FitTrials | None:
    """None where head outputs were not kept, or nothing was measured of the relation."""
    outputs = effects.means[q_id].prompts
    return None if outputs is None or q_id not in effects.effects else _FitTrials(effects.effects[q_id], outputs)


def _mean(name: str, drawn: Iterable[tuple[_FitTrials, np.ndarray]]) -> Tensor:
    """The unweighted mean over relations of the mean outputs of the trials drawn, (n_layers, n_heads, head_dim)."""
    means = []
    for own, times in drawn:
        outputs: Tensor = getattr(own.outputs, name)
        means.append(weighted_mean(outputs, times[: len(outputs)].astype(np.float64)))
    return means[0] if len(means) == 1 else mean_of_means(means)
