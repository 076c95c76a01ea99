"""Indirect effects of every head on every relation: measured values, rankings, tables, plots and a file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from fv.characters import visible
from fv.config import ScoreKey, StatsConfig
from fv.data.origin import Origin
from fv.errors import ConfigError, one_of, shorten
from fv.files import write_safetensors
from fv.heads.activations import MEANS, RelationMeans, mean_of_relations
from fv.heads.indirect_effect import TrialEffects, aie_stats, aie_table, cie_stats, cie_table
from fv.heads.ranking import Ranking, VectorHeads, top_heads
from fv.heads.screen import Screen
from fv.heads.stability import effects_of, with_other_halves
from fv.interventions.engine import Head
from fv.markup import frame, html_table, paragraph
from fv.statistics.multiplicity import q_values, two_sided_t

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORM = "indirect_effects"
"""Name of the file format, stored in the file."""
MEASURED = ("delta_logprob", "delta_p")
OUTPUTS = ("clean", "corrupted")
SCREENED, QUERY = "screen", "query"
KEYS = tuple(key.value for key in ScoreKey)


@dataclass(frozen=True, eq=False)
class Effects(Mapping[str, "HeadEffects"]):
    """Effects and means of every relation: `effects["antonym"]` holds one relation's, `effects.mean()` the average.

    Attributes:
        effects: {q_id: effects trial by trial}.
        means: {q_id: means over the relation's fit prompts}.
        origin: the model and the prompts of the measurement.
        prompts: scores of each fit trial's clean, corrupted and zero-shot prompts, one row per trial.
        seed: seed of the resamples of intervals.
        stats: level, resamples and method of intervals.
        screen: estimates and verified heads of a screened run; None if all heads were measured.
        clusters: {q_id: cluster of relations that are not independent}. Intervals over relations resample clusters; a
            relation that is missing here is a cluster of its own.

    Example:
        >>> effects = fv.indirect_effects(lm, trials)
        >>> head = effects["antonym"].top(1)[0]
    """

    effects: dict[str, TrialEffects]
    means: dict[str, RelationMeans]
    origin: Origin
    prompts: pd.DataFrame
    seed: int = 42
    stats: StatsConfig = field(default_factory=StatsConfig)
    screen: Screen | None = None
    clusters: dict[str, str] = field(default_factory=dict)

    @property
    def n_tests(self) -> int | None:
        """Number of heads that the screen chose from; None if all heads were measured."""
        return None if self.screen is None else len(self.screen.candidates)

    @property
    def qids(self) -> list[str]:
        """The relations, sorted."""
        return sorted(self.means)

    def __getitem__(self, q_id: str) -> "HeadEffects":
        if q_id not in self.means:
            raise KeyError(f"No effects of {q_id!r} were measured, only of {shorten(self.qids, 40)}.")
        return HeadEffects(self, (q_id,), q_id)

    def __iter__(self) -> Iterator[str]:
        return iter(self.qids)

    def __len__(self) -> int:
        return len(self.means)

    def mean(self, relations: Sequence[str] | None = None) -> "HeadEffects":
        """Average indirect effect (AIE): the unweighted mean over all relations, or over the given ones.

        Raises:
            ConfigError: `relations` is empty, or one of them was not measured.
        """
        if relations is None:
            return HeadEffects(self, tuple(self.qids), None)
        if isinstance(relations, str) or not relations or not {*relations} <= {*self.means}:
            raise ConfigError(f"relations={relations!r} must be some of {shorten(self.qids, 40)}.")
        return HeadEffects(self, tuple(relations), None)

    @cached_property
    def cie(self) -> pd.DataFrame:
        """`fv.heads.indirect_effect.cie_table` of all relations."""
        return pd.concat([cie_table(q_id, own) for q_id, own in self.effects.items()], ignore_index=True)

    @property
    def table(self) -> pd.DataFrame:
        """Effects of every relation, columns q_id, layer, head, n_trials, mean_delta_logprob and mean_delta_p."""
        return self.cie.copy()

    def scores_of(self, q_id: str | None) -> pd.DataFrame:
        """Scores that rank heads: the CIE of one relation, or the AIE over all."""
        return aie_table(self.cie) if q_id is None else self.cie[self.cie["q_id"] == q_id]

    def means_of(self, q_id: str | None) -> RelationMeans:
        """Means of activations of one relation, or their unweighted mean over all relations if `q_id` is None."""
        return self.means[q_id] if q_id is not None else mean_of_relations(list(self.means.values()))

    @property
    def residual_norms(self) -> dict[str, Tensor]:
        """{q_id: mean norm of the residual stream after each block, (n_layers,)}."""
        return {q_id: means.residual_norm for q_id, means in self.means.items()}

    def q_values(self, q_id: str, key: str) -> dict[Head, float]:
        """{measured head: its q-value for one relation} in the metric of column `key`, as in `cie_stats.csv`."""
        own = self.effects[q_id]
        found = q_values(two_sided_t(effects_of(own, key).T), self.n_tests)
        heads = (Head(layer, head) for layer, head in zip(*map(np.ndarray.tolist, np.nonzero(own.swept)), strict=True))
        return dict(zip(heads, found.tolist(), strict=True))

    def aie_scores(self, without: str | None = None) -> pd.DataFrame:
        """AIE over all relations, or over all except `without`.

        Raises:
            ConfigError: no relation is left.
        """
        if without is None:
            return self.scores_of(None)
        others = [q_id for q_id in self.qids if q_id != without]
        if not others:
            raise ConfigError(f"Leaving {without} out of its own AIE leaves no relation; at least one other is needed.")
        return aie_table(self.cie, others)

    def heads_of(self, q_id: str | None, ranking: Ranking, k: int, aie: bool = False, name: str = "k") -> VectorHeads:
        """The `k` best heads of a relation's ranking, or of the AIE's, with the whole ranking and the means.

        Args:
            q_id: the relation whose ranking and means are taken; None for the AIE's.
            ranking: the settings of the ranking; its own `k` is not used.
            k: number of heads.
            aie: whether the heads come from the AIE although the means are the relation's own.
            name: name of `k` in error messages.

        Raises:
            ConfigError: fewer than `k` heads were measured.
        """
        if aie and q_id is not None:
            scores = self.aie_scores(q_id if ranking.leave_one_out else None)
        else:
            scores = self.scores_of(q_id)
        heads = top_heads(scores, ranking.key, k, name)
        ranked = top_heads(scores, ranking.key, len(scores))
        unverified = () if self.screen is None else tuple(self.screen.unverified)
        return VectorHeads(tuple(heads), tuple(ranked), self.means_of(q_id), unverified)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the effects into one safetensors file; `fv.load_effects` reads them back exactly."""
        tensors: dict[str, Tensor] = {}
        # Tensors are named by the relation's number, since a relation's name may hold any character.
        for number, q_id in enumerate(self.qids):
            for name in MEASURED:
                tensors[f"{number}.{name}"] = torch.from_numpy(getattr(self.effects[q_id], name))
            tensors[f"{number}.{QUERY}"] = torch.from_numpy(self.effects[q_id].query_numbers)
            for name in MEANS:
                tensors[f"{number}.{name}"] = getattr(self.means[q_id], name).contiguous()
            if (prompts := self.means[q_id].prompts) is not None:
                for name in OUTPUTS:
                    tensors[f"{number}.prompts.{name}"] = getattr(prompts, name).contiguous()
            if self.screen is not None:
                tensors[f"{number}.{SCREENED}"] = torch.from_numpy(self.screen.scores[q_id])
        about = {
            "form": FORM,
            "relations": self.qids,
            "origin": self.origin.as_json(),
            "prompts": self.prompts.to_dict("list"),
            "seed": self.seed,
            "stats": asdict(self.stats),
            "screen": None if self.screen is None else self.screen.about(),
            "clusters": self.clusters,
        }
        write_safetensors(Path(path), tensors, about)

    def __repr__(self) -> str:
        n_layers, n_heads, _ = next(iter(self.means.values())).clean.shape
        return visible(f"Effects({self.origin.model}, {n_layers} layers x {n_heads} heads, {shorten(self.qids)})")

    def _repr_html_(self) -> str:
        best = [(q_id, *own.top(5)) for q_id, own in self.items()]
        columns = ["relation", *(f"head {rank}" for rank in range(1, max(map(len, best))))]
        return html_table(columns, ((q_id, *(f"{layer}.{head}" for layer, head in heads)) for q_id, *heads in best))


@dataclass(frozen=True, eq=False)
class HeadEffects:
    """Effects of every head on one relation, or on average over several (AIE).

    Attributes:
        measured: the effects of all relations, from which these are taken.
        relations: the relations that are averaged, or the single one.
        q_id: the relation; None for an average.

    Example:
        >>> effects["antonym"].top(2) == effects.mean().top(2)  # only one relation was measured here
        True
    """

    measured: Effects
    relations: tuple[str, ...]
    q_id: str | None

    @cached_property
    def table(self) -> pd.DataFrame:
        """Effects with one row per head: (q_id,) layer, head, n_trials or n_qids, mean_delta_logprob, mean_delta_p.

        Effects are changes in the target's log probability, in nats, and in its probability. A run writes the same
        values into `cie_scores.csv` and `aie_scores.csv`.
        """
        if self.q_id is None:
            return aie_table(self.measured.cie, self.relations)
        return self.measured.scores_of(self.q_id).reset_index(drop=True)

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """Means with intervals, one row per (head, metric), as in a run's `cie_stats.csv` or `aie_stats.csv`.

        Intervals of one relation are over queries; intervals of an average are over clusters of relations.
        """
        measured = self.measured
        own = {q_id: measured.effects[q_id] for q_id in self.relations}
        stats, seed, n_tests = measured.stats, measured.seed, measured.n_tests
        if self.q_id is not None:
            return with_other_halves(cie_stats(own, stats, seed, n_tests), own, seed)
        return aie_stats(measured.cie[measured.cie["q_id"].isin(own)], stats, seed, measured.clusters, n_tests)

    @cached_property
    def means(self) -> RelationMeans:
        """Means of activations over the fit prompts; for several relations, the unweighted mean of their means."""
        if self.q_id is not None:
            return self.measured.means[self.q_id]
        return mean_of_relations([self.measured.means[q_id] for q_id in self.relations])

    def top(self, k: int = 10, key: str = KEYS[0]) -> list[Head]:
        """The `k` heads with the greatest effect, best first, ties to the lower layer and head.

        Raises:
            ConfigError: `key` is not a column of effects, or fewer than `k` heads were measured.
        """
        if not isinstance(k, int) or k < 1:
            raise ConfigError(f"k={k!r} must be a whole number of 1 or more.")
        return top_heads(self.table, checked_key(key), k)

    def plot(self, key: str = KEYS[0], k: int | None = 10) -> "Figure":
        """Heat map of effects, layer x head; marks the heads whose interval excludes zero, and the top `k`.

        Raises:
            ConfigError: `key` is not a column of effects, or fewer than `k` heads were measured.
            ImportError: matplotlib is not installed.
        """
        from fv.figures.heads import head_heatmap

        n_layers, n_heads, _ = self.means.clean.shape
        shown = self.intervals[self.intervals["metric"] == checked_key(key)]
        if k is not None:
            chosen = self.top(min(k, len(self.table)), key)
            shown = shown.assign(chosen=[(layer, head) in chosen for layer, head in shown[["layer", "head"]].values])
        confidence = self.measured.stats.confidence
        return head_heatmap(shown, key, shape=(n_layers, n_heads), confidence=confidence)

    def __repr__(self) -> str:
        of = self.q_id or f"the mean over {len(self.relations)} relations"
        best = ", ".join(f"{layer}.{head}" for layer, head in self.top(min(5, len(self.table))))
        return visible(f"HeadEffects({of}: {len(self.table)} heads, best {best})")

    def _repr_html_(self) -> str:
        best = self.table.sort_values(KEYS[0], ascending=False).head(10)
        return paragraph(repr(self)) + frame(best)


def checked_key(key: str) -> str:
    """Return `key` if it is a column of effects.

    Raises:
        ConfigError: it is not.
    """
    return one_of("key", key, KEYS)
