"""StepD's artifacts as the later steps read them, verified."""

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from fv.config import Config, StatsConfig
from fv.data.origin import Origin
from fv.data.snapshot import Snapshot, read_snapshot
from fv.files import reading
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.runs.effect_files import read_prompt_scores, read_trial_effects
from fv.runs.mean_files import read_relation_means
from fv.runs.outputs import read_verified, verify_outputs
from fv.runs.paths import FV_META, TOP_HEADS, RunPaths
from fv.runs.records import read_meta
from fv.runs.screen_files import SCORES, read_screen


@dataclass(frozen=True)
class StepdResults:
    """StepD's artifacts.

    Attributes:
        snapshot: the trials.
        effects: effects and means of every relation.
        hashes: SHA-256 of every StepD file, by name.
        warnings: what StepD warned of that concerns every number of the run.
    """

    snapshot: Snapshot
    effects: Effects
    hashes: dict[str, str]
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, paths: RunPaths, meta: dict[str, Any]) -> "StepdResults":
        """Read what StepD's metadata names.

        Raises:
            ArtifactError: a file is missing, changed or damaged.
        """
        verify_outputs(paths.artifacts, meta["outputs"], "StepD")
        with reading(paths.artifacts):
            return cls._read(paths, meta)

    @classmethod
    def _read(cls, paths: RunPaths, meta: dict[str, Any]) -> "StepdResults":
        snapshot = read_snapshot(paths.snapshot)
        means = {
            q_id: read_relation_means(paths.qid_mean(q_id), paths.qid_other_means(q_id), paths.qid_prompt_outputs(q_id))
            for q_id in snapshot.qids
        }
        trial_effects = read_trial_effects(paths.artifacts / "cie_trials.npz")
        prompts = read_prompt_scores(paths.artifacts / "trial_metrics.jsonl")
        config = meta["config"]
        origin = Origin.named(config["model"]["name"], meta["model"], snapshot)
        stats = TypeAdapter(StatsConfig).validate_python(config["stats"])
        n_layers, n_heads, _ = next(iter(means.values())).clean.shape
        is_screened = SCORES in meta["outputs"]
        screen = read_screen(paths.artifacts, snapshot.qids, (n_layers, n_heads)) if is_screened else None
        clusters = snapshot.meta.clusters
        found = Effects(trial_effects, means, origin, prompts, config["seed"], stats, screen, clusters)
        return cls(snapshot, found, meta["outputs"], tuple(meta.get("warnings", ())))


def ranking_of(config: Config, paths: RunPaths) -> Ranking:
    """How StepE ranked heads; the configuration's own where the vector is from a file."""
    score = config.score
    if config.injection.fvs == ["file"]:
        return Ranking(score.key.value, score.k, score.aie_leave_one_out)
    folder = paths.stepe_to_read
    ranked = read_verified(folder, TOP_HEADS, read_meta(folder / FV_META)["outputs"], "StepE")
    with reading(folder / TOP_HEADS):
        return Ranking(ranked["score_key"], ranked["k"], ranked.get("aie_leave_one_out", False))
