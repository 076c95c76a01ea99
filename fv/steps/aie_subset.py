"""Package of an AIE subset, which StepE writes if `score.aie_qids` names one (spec sections 2 and 4.1)."""

import logging
from pathlib import Path

from fv.config import ScoreConfig
from fv.data.snapshot import read_snapshot
from fv.errors import ConfigError, shorten
from fv.heads.ranking import Ranking, describe_heads
from fv.runs.live_run import LiveRun
from fv.runs.outputs import Outputs
from fv.runs.paths import AIE_META, TOP_HEADS, RunPaths
from fv.runs.records import AieRecord, Hashes
from fv.runs.step import Place, step_fields
from fv.runs.step_settings import Requested, aie_folder, aie_settings
from fv.runs.vector_files import FILES
from fv.vectors.rankings import subset_vector

log = logging.getLogger(__name__)


def subset_folder(score: ScoreConfig, paths: RunPaths, stepd: Hashes) -> Path | None:
    """The folder of the AIE subset's package; None if no subset is named.

    Args:
        score: the settings.
        paths: the paths of the run.
        stepd: {file: SHA-256} of StepD's outputs.

    Raises:
        ConfigError: the subset names a relation without trials.
    """
    if score.aie_qids is None:
        return None
    qids = read_snapshot(paths.snapshot).qids
    if unknown := sorted(set(score.aie_qids) - set(qids)):
        known = shorten([*qids], 40)
        raise ConfigError(f"score.aie_qids: {', '.join(unknown)} not in the snapshot; it has {known}.")
    return aie_folder(score, paths, stepd)


def write_subset(run: LiveRun, folder: Path) -> None:
    """Write `artifacts/aie/<aie_id>/` (spec sections 2 and 4.1): the subset's AIE, ranking and vector."""
    score, lm = run.settings.score, run.lm
    qids, key, k = score.aie_qids or [], score.key.value, score.k
    fields = step_fields(run.settings, lm, run.snapshot.meta.add_special_tokens)
    requested = Requested(aie_settings(score), run.meta.outputs)
    found = subset_vector(lm, run.effects, qids, Ranking(key, k), score.aie_fv)
    outputs = Outputs(folder)
    outputs.json("selected_qids.json", {"aie_id": folder.name, "selected_qids": qids})
    outputs.csv("aie_scores.csv", found.aie)
    described = describe_heads(found.heads, found.aie, key)
    outputs.json(TOP_HEADS, {"score_key": key, "k": k, "heads": described})
    if found.vector is not None:
        outputs.torch(FILES["global"], found.vector)
    place = Place("StepE", run.paths, folder / AIE_META, None)
    place.finish(AieRecord, {**fields, **requested._asdict()}, outputs, aie_id=folder.name)
    log.info("AIE over %s: %s", ", ".join(qids), folder)
