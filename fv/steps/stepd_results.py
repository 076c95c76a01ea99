"""StepD's artifacts as the later steps read them: verified, and turned into rankings and vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from fv.activations import RelationMeans, mean_of_means, read_relation_means
from fv.artifacts import RunPaths, verify_outputs
from fv.controls import VectorHeads
from fv.function_vector import function_vector
from fv.heads import top_heads
from fv.indirect_effect import TrialEffects, aie_table, read_cie_table, read_trial_effects
from fv.models.language_model import LanguageModel
from fv.snapshot import Snapshot, read_snapshot


@dataclass(frozen=True)
class StepdResults:
    """StepD's artifacts.

    Attributes:
        snapshot: the trials.
        cie: rows of `cie_scores.csv`.
        effects: {q_id: effects trial by trial}.
        means: {q_id: means over the relation's fit prompts}.
        hashes: SHA-256 of every StepD file, by name.
    """

    snapshot: Snapshot
    cie: pd.DataFrame
    effects: dict[str, TrialEffects]
    means: dict[str, RelationMeans]
    hashes: dict[str, str]

    @classmethod
    def read(cls, paths: RunPaths, meta: dict[str, Any]) -> "StepdResults":
        """Read what StepD's metadata names.

        Raises:
            ArtifactError: a file is missing, changed or damaged.
        """
        verify_outputs(paths.artifacts, meta["outputs"], "StepD")
        snapshot = read_snapshot(paths.snapshot)
        means = {q: read_relation_means(paths.qid_mean(q), paths.qid_other_means(q)) for q in snapshot.qids}
        effects = read_trial_effects(paths.artifacts / "cie_trials.npz")
        return cls(snapshot, read_cie_table(paths.artifacts / "cie_scores.csv"), effects, means, meta["outputs"])

    def scores_of(self, q_id: str | None) -> pd.DataFrame:
        """Scores that rank heads: the CIE of one relation, or the AIE over all."""
        return aie_table(self.cie) if q_id is None else self.cie[self.cie["q_id"] == q_id]

    def means_of(self, q_id: str | None) -> RelationMeans:
        """Means of one relation, or their unweighted mean over all."""
        return self.means[q_id] if q_id is not None else mean_of_relations(list(self.means.values()))

    def heads_of(self, q_id: str | None, key: str, k: int) -> VectorHeads:
        """The best `k` heads by `key` of a relation, or over all, with the rest of the ranking.

        Raises:
            ConfigError: fewer than `k` heads were swept.
        """
        scores = self.scores_of(q_id)
        heads = top_heads(scores, key, k)
        return VectorHeads(tuple(heads), tuple(top_heads(scores, key, len(scores))), self.means_of(q_id))

    def vector_of(self, lm: LanguageModel, q_id: str | None, key: str, k: int) -> Tensor:
        """The function vector of a relation, or the global one: (d_model,)."""
        made_of = self.heads_of(q_id, key, k)
        return function_vector(lm, made_of.means.clean, made_of.heads)


def mean_of_relations(means: Sequence[RelationMeans]) -> RelationMeans:
    """Unweighted mean over relations."""
    return RelationMeans(
        mean_of_means([m.clean for m in means]),
        mean_of_means([m.corrupted for m in means]),
        mean_of_means([m.residual for m in means]),
    )
