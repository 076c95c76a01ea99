"""StepD's artifacts as the later steps read them: verified, and turned into rankings and vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from torch import Tensor

from fv.activations import RelationMeans, mean_of_means, read_relation_means
from fv.artifacts import RunPaths, read_json, verify_outputs
from fv.config import AlphaUnit, Config
from fv.controls import VectorHeads
from fv.errors import ConfigError
from fv.function_vector import function_vector
from fv.heads import top_heads
from fv.indirect_effect import TrialEffects, aie_table, read_cie_table, read_trial_effects
from fv.models.language_model import LanguageModel
from fv.snapshot import Snapshot, read_snapshot


@dataclass(frozen=True)
class Ranking:
    """How StepE ranked heads, how many of them it took, and whether each relation was left out of its own AIE."""

    key: str
    k: int
    leave_one_out: bool = False

    @classmethod
    def of(cls, config: Config, paths: RunPaths) -> "Ranking":
        """StepE's; the configuration's own where the vector is from a file."""
        score = config.score
        if config.injection.fvs == ["file"]:
            return cls(score.key.value, score.k, score.aie_leave_one_out)
        ranked = read_json(paths.stepe_to_read / "top_heads.json")
        return cls(ranked["score_key"], ranked["k"], ranked.get("aie_leave_one_out", False))


@dataclass(frozen=True)
class StepdResults:
    """StepD's artifacts.

    Attributes:
        snapshot: the trials.
        cie: rows of `cie_scores.csv`.
        effects: {q_id: effects trial by trial}.
        means: {q_id: means over the relation's fit prompts}.
        hashes: SHA-256 of every StepD file, by name.
        warnings: what StepD warned of that concerns every number of the run.
    """

    snapshot: Snapshot
    cie: pd.DataFrame
    effects: dict[str, TrialEffects]
    means: dict[str, RelationMeans]
    hashes: dict[str, str]
    warnings: tuple[str, ...] = ()

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
        cie, warnings = read_cie_table(paths.artifacts / "cie_scores.csv"), tuple(meta.get("warnings", ()))
        return cls(snapshot, cie, effects, means, meta["outputs"], warnings)

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

    def norms_of_alpha(self, config: Config) -> dict[str, Tensor] | None:
        """{q_id: norm of its residual stream behind each block, (n_layers,)} that alpha is a multiple of; None where it
        is a factor on the vector as it is.

        Raises:
            ConfigError: alpha is a multiple of norms that this StepD did not measure.
        """
        if config.injection.alpha_unit is AlphaUnit.vector:
            return None
        found = {q_id: norm for q_id, norm in self.residual_norms.items() if norm is not None}
        if len(found) < len(self.means):
            raise ConfigError(
                "injection.alpha_unit=residual needs the norms of the residual stream, which this run's StepD, of an "
                "older version, did not measure. Run StepD again with overwrite=true, or use alpha_unit=vector."
            )
        return found

    def aie_scores(self, without: str | None = None) -> pd.DataFrame:
        """The AIE over all relations, or over all but one.

        Raises:
            ConfigError: no relation is left.
        """
        if without is None:
            return self.scores_of(None)
        others = [q_id for q_id in self.snapshot.qids if q_id != without]
        if not others:
            raise ConfigError(
                f"score.aie_leave_one_out=true leaves no relation beside {without}; the AIE needs one other or more."
            )
        return aie_table(self.cie, others)

    def heads_of(self, q_id: str | None, ranking: Ranking, k: int, aie: bool = False) -> VectorHeads:
        """The best `k` heads of a relation, or over all, with the rest of the ranking.

        Args:
            q_id: the relation; None for all.
            ranking: how heads are ranked.
            k: how many.
            aie: whether a relation's own means go with the heads of the AIE.

        Raises:
            ConfigError: fewer than `k` heads were swept.
        """
        if aie and q_id is not None:
            scores = self.aie_scores(q_id if ranking.leave_one_out else None)
        else:
            scores = self.scores_of(q_id)
        heads = top_heads(scores, ranking.key, k)
        return VectorHeads(tuple(heads), tuple(top_heads(scores, ranking.key, len(scores))), self.means_of(q_id))

    def vector_of(self, lm: LanguageModel, q_id: str | None, ranking: Ranking, k: int, aie: bool = False) -> Tensor:
        """The function vector of a relation, or the global one: (d_model,). Arguments as for `heads_of`."""
        made_of = self.heads_of(q_id, ranking, k, aie)
        return function_vector(lm, made_of.means.clean, made_of.heads)


def mean_of_relations(means: Sequence[RelationMeans]) -> RelationMeans:
    """Unweighted mean over relations."""
    norms = [m.residual_norm for m in means if m.residual_norm is not None]
    return RelationMeans(
        mean_of_means([m.clean for m in means]),
        mean_of_means([m.corrupted for m in means]),
        mean_of_means([m.residual for m in means]),
        mean_of_means(norms) if len(norms) == len(means) else None,
    )
