"""StepE: StepD's scores and clean means -> top-k heads -> function vectors (spec section 2).

Reads the snapshot and StepD's artifacts only: never the CSV, never samples.
"""

import logging
from pathlib import Path

from fv.config import Config
from fv.evaluation.cells import grid
from fv.evaluation.evaluation import GridResults
from fv.evaluation.held_out import HeldOutRows
from fv.heads.ranking import Ranking
from fv.models.language_model import LanguageModel
from fv.runs.engine import engine_of, with_rows_of
from fv.runs.evaluation import evaluation_of
from fv.runs.locks import run_lock
from fv.runs.logs import log_to_file
from fv.runs.made_with import aie_settings, stepe_settings
from fv.runs.metadata import (
    finished,
    finished_stepd,
    forget_pages,
    is_complete,
    refuse_other_model,
    start_job,
    step_meta,
)
from fv.runs.outputs import Outputs, verify_outputs
from fv.runs.paths import AIE_META, FV_META, TOP_HEADS, RunPaths
from fv.runs.records import read_meta, write_meta
from fv.runs.results import StepdResults
from fv.runs.units import unit_store
from fv.runs.vector_files import FILES
from fv.steps.advice import with_settings
from fv.steps.aie_subset import subset_folder, write_subset
from fv.steps.analyses import analyse_after
from fv.steps.holder import ModelHolder
from fv.steps.summary import grid_summary
from fv.vectors.names import source_name
from fv.vectors.rankings import TopHeads, with_vectors
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL, Driver
from fv.work.flow import Flow
from fv.work.store import UnitStore

log = logging.getLogger(__name__)


@with_settings()
def run_stepe(config: Config, models: ModelHolder | None = None, driver: Driver = SERIAL) -> Path:
    """Run StepE, and the AIE subset package when `score.aie_qids` names one.

    Args:
        config: the configuration.
        models: gives the model, if one is needed; None loads it for this step alone.
        driver: has the units computed.

    Returns:
        the folder of its artifacts.

    Raises:
        FvError: StepD has not run, is of another configuration, or its files changed; `score.k` or a q_id is not
            possible; StepE ran here with other settings.
    """
    start_job(config)
    paths, models = RunPaths.of(config), models or ModelHolder()
    # Who finds all of it there does not keep others out: jobs of a sweep are at work.
    with run_lock(paths.root, shared=True):
        stepd_meta = finished_stepd(paths, config)  # before there is a log
        config = with_rows_of(config, stepd_meta)
        verify_outputs(paths.artifacts, stepd_meta["outputs"], "StepD")
        with log_to_file(paths.logs / "stepE.log"):
            if lacking(config, paths, stepd_meta["outputs"]) == (False, None):
                log.info("StepE in %s is complete already.", paths.stepe)
                analyse_after("StepE", config, paths, lambda: models.of(config), driver=driver)
                return paths.stepe
    with run_lock(paths.root), log_to_file(paths.logs / "stepE.log"):
        if read_meta(paths.stepd_meta) != stepd_meta:  # another command came first
            stepd_meta = finished_stepd(paths, config)
        stepd = StepdResults.read(paths, stepd_meta)
        lacks_vectors, subset = lacking(config, paths, stepd.hashes)
        lm = models.of(config)
        refuse_other_model(stepd_meta, lm, paths)
        if lacks_vectors:
            _write_vectors(config, paths, lm, stepd, driver)
        if subset is not None:
            write_subset(config, subset, lm, stepd)
            log.info("AIE over %s: %s", ", ".join(config.score.aie_qids or []), subset)
        analyse_after("StepE", config, paths, lambda: lm, stepd, driver=driver)
    return paths.stepe


def lacking(config: Config, paths: RunPaths, stepd_hashes: dict[str, str]) -> tuple[bool, Path | None]:
    """What StepE has to make: whether the vectors, and the folder of the AIE subset's package if that.

    Args:
        config: the configuration.
        paths: the run's.
        stepd_hashes: {file: SHA-256} of what StepD wrote.

    Raises:
        FvError: StepE ran here with other settings, or its files were changed; the subset names an unknown relation.
    """
    made = is_complete("StepE", paths.stepe / FV_META, stepe_settings(config), stepd_hashes, config.overwrite)
    subset = subset_folder(config, paths, stepd_hashes)
    if subset and is_complete("StepE", subset / AIE_META, aie_settings(config), stepd_hashes, config.overwrite):
        subset = None
    return not made, subset


def _write_vectors(config: Config, paths: RunPaths, lm: LanguageModel, stepd: StepdResults, driver: Driver) -> None:
    folder, measured, ranking = paths.stepe, stepd.effects, _ranking(config)
    meta = step_meta("stepE", config, lm, settings=stepe_settings(config), inputs=stepd.hashes)
    top = TopHeads.of(measured, ranking, config.score.called("k"))
    by_layer, described = top.global_by_layer(lm), top.described(measured)
    overall = by_layer.sum(0)
    # The metadata goes last: a StepE that was killed has none, and is made again.
    (folder / FV_META).unlink(missing_ok=True)
    forget_pages(paths, of_all_tags=not paths.tag)
    outputs = Outputs(folder)
    outputs.json(TOP_HEADS, described)
    outputs.torch("fv_by_layer.pt", by_layer)
    outputs.torch(FILES["global"], overall)
    outputs.torch(FILES["qid"], with_vectors(lm, top.own))
    outputs.torch(FILES["aie_qid"], with_vectors(lm, top.of_aie))
    if config.injection.quick_eval:
        store = unit_store(config, lm)
        found, _ = driver.run(flow_of(config, lm, stepd, store), "StepE", store)
        outputs.json("stepE_eval.json", grid_summary(config, stepd, found, ranking=ranking))
    more = {"d_model": lm.d_model, "k": ranking.k, "score_key": ranking.key, "heads": described["global"]}
    write_meta(folder / FV_META, finished({**meta, **more, "norm": float(overall.norm())}, outputs))
    n_qids = len(measured.qids)
    log.info("StepE: top %d heads, %d relation vectors and the global one in %s", ranking.k, n_qids, folder)


def flow_of(
    config: Config, lm: LanguageModel, stepd: StepdResults, store: UnitStore
) -> Flow[tuple[GridResults, HeldOutRows | None]]:
    """Injects the global vector into all relations' eval trials: the quick evaluation.

    Args:
        config: the configuration, with the size of passes.
        lm: the model.
        stepd: StepD's artifacts.
        store: its units, which note when passes were made smaller.
    """
    ranking, cells = _ranking(config), grid(config.injection, lm.n_layers)
    values = TopHeads.of(stepd.effects, ranking, config.score.called("k")).global_by_layer(lm).sum(0)
    vector = Vector(source_name("global", None), "global", None, values, config.score.k)
    evaluation = evaluation_of(config, lm, engine_of(config, lm, store), stepd, ranking)
    return evaluation.flow([(vector, stepd.snapshot.qids)], cells, config.injection.n_eval, held_out=False)


def _ranking(config: Config) -> Ranking:
    return Ranking(config.score.key.value, config.score.k, config.score.aie_leave_one_out)
