"""What was measured of every relation, and the rankings and function vectors that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from fv.errors import ConfigError
from fv.heads.activations import RelationMeans, mean_of_means
from fv.heads.indirect_effect import TrialEffects, aie_table
from fv.heads.ranking import top_heads
from fv.models.language_model import LanguageModel
from fv.vectors.controls import VectorHeads
from fv.vectors.function_vector import function_vector
from fv.vectors.vector import Vector


@dataclass(frozen=True)
class Ranking:
    """How heads are ranked.

    Attributes:
        key: the column that ranks them, `mean_delta_logprob` or `mean_delta_p`.
        k: how many are taken.
        leave_one_out: whether each relation is left out of its own AIE.
    """

    key: str
    k: int
    leave_one_out: bool = False


@dataclass(frozen=True)
class Measured:
    """Effects and means of every relation.

    Attributes:
        cie: rows of `fv.heads.indirect_effect.cie_table` of all relations.
        effects: {q_id: effects trial by trial}.
        means: {q_id: means over the relation's fit prompts}.
    """

    cie: pd.DataFrame
    effects: dict[str, TrialEffects]
    means: dict[str, RelationMeans]

    @property
    def qids(self) -> list[str]:
        """The relations, sorted."""
        return sorted(self.means)

    def scores_of(self, q_id: str | None) -> pd.DataFrame:
        """Scores that rank heads: the CIE of one relation, or the AIE over all."""
        return aie_table(self.cie) if q_id is None else self.cie[self.cie["q_id"] == q_id]

    def means_of(self, q_id: str | None) -> RelationMeans:
        """Means of one relation, or their unweighted mean over all."""
        return self.means[q_id] if q_id is not None else mean_of_relations(list(self.means.values()))

    @property
    def residual_norms(self) -> dict[str, Tensor | None]:
        """{q_id: mean norm of the residual stream behind each block, (n_layers,)}; None where it was not measured."""
        return {q_id: means.residual_norm for q_id, means in self.means.items()}

    def aie_scores(self, without: str | None = None) -> pd.DataFrame:
        """The AIE over all relations, or over all but one.

        Raises:
            ConfigError: no relation is left.
        """
        if without is None:
            return self.scores_of(None)
        others = [q_id for q_id in self.qids if q_id != without]
        if not others:
            raise ConfigError(f"Leaving {without} out of its own AIE leaves no relation; it needs one other or more.")
        return aie_table(self.cie, others)

    def heads_of(self, q_id: str | None, ranking: Ranking, k: int, aie: bool = False, name: str = "k") -> VectorHeads:
        """The best `k` heads of a relation, or over all, with the rest of the ranking.

        Args:
            q_id: the relation; None for all.
            ranking: how heads are ranked.
            k: how many.
            aie: whether a relation's own means go with the heads of the AIE.
            name: what a message calls `k`.

        Raises:
            ConfigError: fewer than `k` heads were swept.
        """
        if aie and q_id is not None:
            scores = self.aie_scores(q_id if ranking.leave_one_out else None)
        else:
            scores = self.scores_of(q_id)
        heads = top_heads(scores, ranking.key, k, name)
        return VectorHeads(tuple(heads), tuple(top_heads(scores, ranking.key, len(scores))), self.means_of(q_id))

    def vector_of(
        self, lm: LanguageModel, q_id: str | None, ranking: Ranking, k: int, aie: bool = False, name: str = "k"
    ) -> Tensor:
        """The function vector of a relation, or the global one: (d_model,). Arguments as for `heads_of`."""
        made_of = self.heads_of(q_id, ranking, k, aie, name)
        return function_vector(lm, made_of.means.clean, made_of.heads)

    def heads_of_vector(self, vector: Vector, ranking: Ranking) -> VectorHeads | None:
        """The heads a vector was made of; None for one from a file."""
        if vector.kind == "file" or vector.k is None:
            return None
        return self.heads_of(vector.source_qid, ranking, vector.k, aie=vector.kind == "aie_qid")


def mean_of_relations(means: Sequence[RelationMeans]) -> RelationMeans:
    """Unweighted mean over relations."""
    norms = [m.residual_norm for m in means if m.residual_norm is not None]
    return RelationMeans(
        mean_of_means([m.clean for m in means]),
        mean_of_means([m.corrupted for m in means]),
        mean_of_means([m.residual for m in means]),
        mean_of_means(norms) if len(norms) == len(means) else None,
    )
