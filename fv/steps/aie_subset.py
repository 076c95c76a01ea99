"""The AIE subset package that StepE writes when `score.aie_qids` names one (spec sections 2 and 4.1)."""

from pathlib import Path

from fv.config import Config
from fv.data.snapshot import read_snapshot
from fv.errors import ConfigError, shorten
from fv.heads.ranking import Ranking, describe_heads
from fv.models.language_model import LanguageModel
from fv.runs.made_with import aie_folder, aie_settings
from fv.runs.metadata import finished, step_meta
from fv.runs.outputs import Outputs
from fv.runs.paths import AIE_META, TOP_HEADS, RunPaths
from fv.runs.records import write_meta
from fv.runs.results import StepdResults
from fv.runs.vector_files import FILES
from fv.vectors.rankings import subset_vector


def subset_folder(config: Config, paths: RunPaths, stepd_hashes: dict[str, str]) -> Path | None:
    """Where the AIE subset's package belongs; None when no subset is named.

    Args:
        config: the configuration.
        paths: the run's.
        stepd_hashes: {file: SHA-256} of what StepD wrote.

    Raises:
        ConfigError: the subset names a relation that has no trials.
    """
    if config.score.aie_qids is None:
        return None
    qids = read_snapshot(paths.snapshot).qids
    unknown = sorted(set(config.score.aie_qids) - set(qids))
    if unknown:
        known = shorten([*qids], 40)
        raise ConfigError(f"score.aie_qids: {', '.join(unknown)} not in the snapshot; it has {known}.")
    return aie_folder(config, paths, stepd_hashes)


def write_subset(config: Config, folder: Path, lm: LanguageModel, stepd: StepdResults) -> None:
    """`artifacts/aie/<aie_id>/` (spec sections 2 and 4.1): AIE over the subset, its ranking, its vector."""
    settings = aie_settings(config)
    qids, key, k = settings["qids"], settings["score_key"], settings["k"]
    meta = step_meta("stepE-aie", config, lm, aie_id=folder.name, settings=settings, inputs=stepd.hashes)
    found = subset_vector(lm, stepd.effects, qids, Ranking(key, k), config.score.aie_fv)
    outputs = Outputs(folder)
    outputs.json("selected_qids.json", {"aie_id": folder.name, "selected_qids": qids})
    outputs.csv("aie_scores.csv", found.aie)
    described = describe_heads(found.heads, found.aie, key)
    outputs.json(TOP_HEADS, {"score_key": key, "k": k, "heads": described})
    if found.vector is not None:
        outputs.torch(FILES["global"], found.vector)
    write_meta(folder / AIE_META, finished(meta, outputs))
