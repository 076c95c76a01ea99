"""Rankings of heads: the top k of each, the vectors of these heads, and the stability of each ranking."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import pandas as pd
from torch import Tensor

from fv.config import StatsConfig
from fv.files import JsonObject
from fv.heads.activations import mean_of_means
from fv.heads.effects import Effects
from fv.heads.indirect_effect import aie_table
from fv.heads.ranking import Ranking, VectorHeads, describe_heads, rank_heads, top_heads
from fv.heads.stability import StabilityReport, effects_of, stability_report
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.function_vector import vector_by_layer, vector_of_heads
from fv.vectors.names import ranking_name


@dataclass(frozen=True)
class TopHeads:
    """Top k heads of every ranking of a run.

    Attributes:
        ranking: the settings of the rankings.
        overall: top heads of the AIE over all relations.
        own: {q_id: top heads by the relation's own CIE}.
        of_aie: {q_id: top heads of the AIE, with the relation's own means}.
    """

    ranking: Ranking
    overall: VectorHeads
    own: dict[str, VectorHeads]
    of_aie: dict[str, VectorHeads]

    @classmethod
    def of(cls, measured: Effects, ranking: Ranking, name: str = "k") -> "TopHeads":
        """Rank the measured heads. Error messages call `k` `name`.

        Raises:
            ConfigError: fewer than k heads were measured, or leaving a relation out of its AIE leaves none.
        """
        overall = measured.heads_of(None, ranking, ranking.k, name=name)
        own = {q_id: measured.heads_of(q_id, ranking, ranking.k, name=name) for q_id in measured.qids}
        of_aie = {q_id: measured.heads_of(q_id, ranking, ranking.k, True, name) for q_id in measured.qids}
        return cls(ranking, overall, own, of_aie)

    def described(self, measured: Effects) -> JsonObject:
        """Top heads of every ranking with their scores, as JSON: `top_heads.json`."""
        key, leave_out = self.ranking.key, self.ranking.leave_one_out
        return {
            "score_key": key,
            "k": self.ranking.k,
            "aie_leave_one_out": leave_out,
            "global": describe_heads(self.overall.heads, measured.aie_scores(), key),
            "per_qid": {q: describe_heads(own.heads, measured.scores_of(q), key) for q, own in self.own.items()},
            "aie_per_qid": {
                q_id: describe_heads(own.heads, measured.aie_scores(q_id if leave_out else None), key)
                for q_id, own in self.of_aie.items()
            },
        }

    def global_by_layer(self, lm: LanguageModel) -> Tensor:
        """Global vector, split by the layers of its heads: (n_layers, d_model)."""
        return vector_by_layer(lm, self.overall.means.clean, self.overall.heads)


class StoredVector(TypedDict):
    """A relation's vector, (d_model,), with its heads, in the form that files hold."""

    vector: Tensor
    heads: list[tuple[int, int]]
    k: int


def with_vectors(lm: LanguageModel, made_of: dict[str, VectorHeads]) -> dict[str, StoredVector]:
    """Compute each relation's vector, (d_model,), and return it with its heads."""
    return {
        q_id: {
            "vector": vector_of_heads(lm, own.means.clean, own.heads),
            "heads": [(head.layer, head.head) for head in own.heads],
            "k": len(own.heads),
        }
        for q_id, own in made_of.items()
    }


class SubsetVector(NamedTuple):
    """AIE over some relations, in the columns of `aie_scores.csv`, its top heads, and their vector, (d_model,)."""

    aie: pd.DataFrame
    heads: list[Head]
    vector: Tensor | None


def subset_vector(
    lm: LanguageModel, measured: Effects, qids: Sequence[str], ranking: Ranking, with_vector: bool = True
) -> SubsetVector:
    """Compute the AIE over `qids` only, its top heads, and their vector from these relations' unweighted mean.

    Raises:
        ConfigError: fewer than k heads were measured.
    """
    aie = aie_table(measured.cie, qids)
    heads = top_heads(aie, ranking.key, ranking.k)
    if not with_vector:
        return SubsetVector(aie, heads, None)
    mean = mean_of_means([measured.means[q_id].clean for q_id in qids])
    return SubsetVector(aie, heads, vector_of_heads(lm, mean, heads))


class StabilityReports(NamedTuple):
    """Stability of the rankings of a run.

    Attributes:
        reports: {name of the ranking: `fv.heads.stability.stability_report`}, as JSON.
        heads: all ranked heads of every ranking, one row per head: ranking, rank, layer, head, its score, and
            `inclusion`, the probability that the head is among the top k.
    """

    reports: dict[str, StabilityReport]
    heads: pd.DataFrame


def ranking_stability(measured: Effects, ranking: Ranking, stats: StatsConfig, seed: int) -> StabilityReports:
    """Measure the stability of the AIE's ranking and of each relation's own."""
    every = [stability_of(measured, of, ranking, stats, seed) for of in (None, *measured.qids)]
    reports = {name: report for one in every for name, report in one.reports.items()}
    return StabilityReports(reports, pd.concat([one.heads for one in every], ignore_index=True))


def stability_of(
    measured: Effects, q_id: str | None, ranking: Ranking, stats: StatsConfig, seed: int
) -> StabilityReports:
    """Measure the stability of one ranking: a relation's own, or the AIE's if `q_id` is None."""
    key, name = ranking.key, ranking_name(q_id)
    effects = [effects_of(measured.effects[own], key) for own in (measured.qids if q_id is None else [q_id])]
    report, chances = stability_report(effects, ranking.k, stats, seed, name)
    ranked = rank_heads(measured.scores_of(q_id).assign(inclusion=chances), key)
    heads = ranked.assign(ranking=name, rank=range(1, len(ranked) + 1))
    columns = ["ranking", "rank", "layer", "head", key, "inclusion"]
    return StabilityReports({name: report}, heads[columns].reset_index(drop=True))
