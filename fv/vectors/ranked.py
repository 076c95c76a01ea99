"""Rankings of heads, the vectors of their top k, and how stable each ranking is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from torch import Tensor

from fv.config import StatsConfig
from fv.heads.activations import mean_of_means
from fv.heads.effects import Effects
from fv.heads.indirect_effect import aie_table
from fv.heads.ranking import Ranking, VectorHeads, describe_heads, rank_heads, top_heads
from fv.heads.stability import effects_of, stability_report
from fv.interventions.engine import Head
from fv.models.language_model import LanguageModel
from fv.vectors.function_vector import vector_by_layer, vector_of_heads
from fv.vectors.names import ranking_name


@dataclass(frozen=True)
class TopHeads:
    """The heads at the top of every ranking of a run.

    Attributes:
        ranking: how heads are ranked, and how many are taken.
        overall: of the AIE over all relations.
        own: {q_id: of the relation's own CIE}.
        of_aie: {q_id: of the AIE, with the relation's own means}.
    """

    ranking: Ranking
    overall: VectorHeads
    own: dict[str, VectorHeads]
    of_aie: dict[str, VectorHeads]

    @classmethod
    def of(cls, measured: Effects, ranking: Ranking, name: str = "k") -> "TopHeads":
        """Rank the heads that were measured.

        Raises:
            ConfigError: there are fewer than k, or no other relation to leave one out of.
        """
        overall = measured.heads_of(None, ranking, ranking.k, name=name)
        own = {q_id: measured.heads_of(q_id, ranking, ranking.k, name=name) for q_id in measured.qids}
        of_aie = {q_id: measured.heads_of(q_id, ranking, ranking.k, True, name) for q_id in measured.qids}
        return cls(ranking, overall, own, of_aie)

    def described(self, measured: Effects) -> dict[str, Any]:
        """Every ranking's top heads with their scores, as JSON: `top_heads.json`."""
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
        """The global vector split by the layer its heads are in: (n_layers, d_model)."""
        return vector_by_layer(lm, self.overall.means.clean, self.overall.heads)


def with_vectors(lm: LanguageModel, made_of: dict[str, VectorHeads]) -> dict[str, dict[str, Any]]:
    """Each relation's vector, (d_model,), with its heads, as the files of vectors hold them."""
    return {
        q_id: {
            "vector": vector_of_heads(lm, own.means.clean, own.heads),
            "heads": [tuple(head) for head in own.heads],
            "k": len(own.heads),
        }
        for q_id, own in made_of.items()
    }


class SubsetVector(NamedTuple):
    """The AIE over some relations, as rows of `aie_scores.csv`, its top heads, and what they make of these relations'
    unweighted mean: (d_model,)."""

    aie: pd.DataFrame
    heads: list[Head]
    vector: Tensor | None


def subset_vector(
    lm: LanguageModel, measured: Effects, qids: Sequence[str], ranking: Ranking, with_vector: bool = True
) -> SubsetVector:
    """What is found when the AIE is over `qids` only.

    Raises:
        ConfigError: there are fewer than k heads.
    """
    aie = aie_table(measured.cie, qids)
    heads = top_heads(aie, ranking.key, ranking.k)
    if not with_vector:
        return SubsetVector(aie, heads, None)
    mean = mean_of_means([measured.means[q_id].clean for q_id in qids])
    return SubsetVector(aie, heads, vector_of_heads(lm, mean, heads))


class RankingStability(NamedTuple):
    """How stable the rankings of a run are.

    Attributes:
        reports: {name of the ranking: `fv.heads.stability.stability_report`}, as JSON.
        heads: every ranking whole, one row a head: ranking, rank, layer, head, its score, and `inclusion`, the
            probability that it is among the top k.
    """

    reports: dict[str, dict[str, Any]]
    heads: pd.DataFrame


def ranking_stability(measured: Effects, ranking: Ranking, stats: StatsConfig, seed: int) -> RankingStability:
    """How stable the ranking over all relations is, and each relation's own."""
    every = [stability_of(measured, of, ranking, stats, seed) for of in (None, *measured.qids)]
    reports = {name: report for one in every for name, report in one.reports.items()}
    return RankingStability(reports, pd.concat([one.heads for one in every], ignore_index=True))


def stability_of(
    measured: Effects, q_id: str | None, ranking: Ranking, stats: StatsConfig, seed: int
) -> RankingStability:
    """How stable one ranking is: a relation's own, or that over all relations where `q_id` is None."""
    key, name = ranking.key, ranking_name(q_id)
    effects = [effects_of(measured.effects[own], key) for own in (measured.qids if q_id is None else [q_id])]
    report, chances = stability_report(effects, ranking.k, stats, seed, name)
    ranked = rank_heads(measured.scores_of(q_id).assign(inclusion=chances), key)
    heads = ranked.assign(ranking=name, rank=range(1, len(ranked) + 1))
    columns = ["ranking", "rank", "layer", "head", key, "inclusion"]
    return RankingStability({name: report}, heads[columns].reset_index(drop=True))
