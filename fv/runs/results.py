"""Results of StepD, as the later steps read them, verified."""

from dataclasses import dataclass

from fv.config import InjectionConfig, ScoreConfig
from fv.data.origin import Origin
from fv.data.snapshot import Snapshot, read_snapshot
from fv.files import reading
from fv.heads.effects import Effects
from fv.heads.ranking import Ranking
from fv.runs.effect_files import read_prompt_scores, read_trial_effects
from fv.runs.mean_files import read_relation_means
from fv.runs.outputs import read_verified, verify_outputs
from fv.runs.paths import FV_META, TOP_HEADS, RunPaths
from fv.runs.records import StepDRecord, StepERecord, read_record
from fv.runs.screen_files import SCORES, read_screen


@dataclass(frozen=True)
class StepdResults:
    """The results of StepD.

    Attributes:
        snapshot: the trials.
        effects: effects and means of all relations.
        hashes: {name of a StepD file: its SHA-256}.
        warnings: StepD's warnings, which concern all numbers of the run.
    """

    snapshot: Snapshot
    effects: Effects
    hashes: dict[str, str]
    warnings: tuple[str, ...]

    @classmethod
    def read(cls, paths: RunPaths, record: StepDRecord) -> "StepdResults":
        """Read the files that StepD's record names.

        Raises:
            ArtifactError: a file is missing, changed or damaged.
        """
        verify_outputs(paths.artifacts, record.outputs, "StepD")
        with reading(paths.artifacts):
            return cls._read(paths, record)

    @classmethod
    def _read(cls, paths: RunPaths, record: StepDRecord) -> "StepdResults":
        snapshot = read_snapshot(paths.snapshot)
        means = {
            q_id: read_relation_means(paths.qid_mean(q_id), paths.qid_other_means(q_id), paths.qid_prompt_outputs(q_id))
            for q_id in snapshot.qids
        }
        trial_effects = read_trial_effects(paths.artifacts / "cie_trials.npz")
        prompts = read_prompt_scores(paths.artifacts / "trial_metrics.jsonl")
        config = record.config
        origin = Origin.named(config.model.name, record.model, snapshot)
        n_layers, n_heads, _ = next(iter(means.values())).clean.shape
        is_screened = SCORES in record.outputs
        screen = read_screen(paths.artifacts, snapshot.qids, (n_layers, n_heads)) if is_screened else None
        clusters = snapshot.meta.clusters
        found = Effects(trial_effects, means, origin, prompts, config.seed, config.stats, screen, clusters)
        return cls(snapshot, found, record.outputs, tuple(record.warnings))


def ranking_of(score: ScoreConfig, injection: InjectionConfig, paths: RunPaths) -> Ranking:
    """Read the ranking of heads that StepE used; if the only vector is a file's, take it from the settings."""
    if all(choice.from_file for choice in injection.choices):
        return Ranking.of(score)
    folder = paths.stepe_to_read
    ranked = read_verified(folder, TOP_HEADS, read_record(folder / FV_META, StepERecord).outputs, "StepE")
    with reading(folder / TOP_HEADS):
        return Ranking(ranked["score_key"], ranked["k"], ranked["aie_leave_one_out"])
