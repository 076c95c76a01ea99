"""StepE: StepD's scores and clean means -> top-k heads -> function vectors (spec section 2).

It reads the snapshot and StepD's files; it never reads the CSV or draws trials.
"""

import logging
from pathlib import Path
from typing import NamedTuple

from fv.config import Config
from fv.config.group import Settings
from fv.evaluation.cells import grid
from fv.evaluation.evaluation import GridResults
from fv.evaluation.held_out import HeldOutRows
from fv.heads.ranking import Ranking
from fv.runs.completeness import finished_stepd, is_complete
from fv.runs.live_run import LiveRun
from fv.runs.machine import start_job
from fv.runs.outputs import Outputs, verify_outputs
from fv.runs.paths import AIE_META, FV_META, TOP_HEADS, RunPaths
from fv.runs.records import AieRecord, StepERecord
from fv.runs.step import Place, step, step_fields
from fv.runs.step_settings import Requested, aie_settings, stepe_settings
from fv.runs.vector_files import FILES
from fv.steps.aie_subset import subset_folder, write_subset
from fv.steps.analyses import analyse_after
from fv.steps.model_holder import ModelHolder
from fv.steps.remedies import with_remedies
from fv.steps.summary import grid_summary
from fv.vectors.kinds import GLOBAL, OF_AIE, OWN
from fv.vectors.rankings import TopHeads, with_vectors
from fv.vectors.vector import Vector
from fv.work.driver import SERIAL, Driver
from fv.work.flow import Flow

log = logging.getLogger(__name__)


class StepEDue(NamedTuple):
    """The work of StepE.

    Attributes:
        run: the run.
        vectors: True if the vectors are to be made.
        subset: the folder of the AIE subset's package; None if it is complete or not requested.
    """

    run: LiveRun
    vectors: bool
    subset: Path | None


@with_remedies()
def run_stepe(config: Config, models: ModelHolder | None = None, driver: Driver = SERIAL) -> Path:
    """Run StepE, and make the package of an AIE subset if `score.aie_qids` names one.

    Args:
        config: the configuration.
        models: loads the model, if it is needed; None loads it for this call only.
        driver: computes the units, or lets workers compute them.

    Returns:
        the folder of its files.

    Raises:
        FvError: StepD has not run, was changed or belongs to another configuration; `score.k` or a q_id is not
            possible; or StepE has run here with other settings.
    """
    start_job(config.seed, config.compute)
    paths, models = RunPaths.of(config), models or ModelHolder()
    # Step6 of any tag may read the files of an untagged StepE, so StepE locks the whole run.
    record, stepe_log = paths.stepe / FV_META, paths.logs / "stepE.log"
    place = Place("StepE", paths, record, stepe_log, alone=True, on_all_pages=not paths.tag)
    with step(place, lambda: _due(config, models, driver)) as due:
        if due and due.vectors:
            _write_vectors(due.run, place)
        if due and due.subset:
            write_subset(due.run, due.subset)
        analyse_after("StepE", due.run.read_anew() if due else LiveRun.of(config, models.of, driver))
    return paths.stepe


def _due(config: Config, models: ModelHolder, driver: Driver) -> StepEDue | None:
    """Find the work of StepE; None if it is complete.

    Raises:
        FvError: StepE has run here with other settings, files were changed, or the subset names an unknown relation.
    """
    record, paths = finished_stepd(config), RunPaths.of(config)
    stepd = record.outputs
    verify_outputs(paths.artifacts, stepd, "StepD")
    subset = subset_folder(config.score, paths, stepd)
    run = LiveRun.of(config, models.of, driver, record)
    if config.overwrite:
        return StepEDue(run, vectors=True, subset=subset)
    made = is_complete("StepE", paths.stepe / FV_META, StepERecord, _settings(run), stepd)
    if subset and is_complete("StepE", subset / AIE_META, AieRecord, aie_settings(config.score), stepd):
        subset = None
    return None if made and subset is None else StepEDue(run, not made, subset)


def _settings(run: LiveRun) -> Settings:
    own = run.settings
    return stepe_settings(own.score, own.injection, own.evaluation, own.stats)


def _write_vectors(run: LiveRun, place: Place) -> None:
    config, lm, effects, ranking = run.settings, run.lm, run.effects, Ranking.of(run.settings.score)
    fields = step_fields(config, lm, run.snapshot.meta.add_special_tokens)
    top = TopHeads.of(effects, ranking, config.score.called("k"))
    by_layer, described = top.global_by_layer(lm), top.described(effects)
    overall = by_layer.sum(0)  # (d_model,)
    place.begin()
    outputs = Outputs(place.folder)
    outputs.json(TOP_HEADS, described)
    outputs.torch("fv_by_layer.pt", by_layer)
    outputs.torch(FILES[GLOBAL.name], overall)
    outputs.torch(FILES[OWN.name], with_vectors(lm, top.own))
    outputs.torch(FILES[OF_AIE.name], with_vectors(lm, top.of_aie))
    if config.injection.quick_eval:
        found, _ = run.driver.run(quick_flow(run), "StepE", run.units())
        outputs.json("stepE_eval.json", grid_summary(run, found, ranking).as_json())
    more = {"d_model": lm.d_model, "k": ranking.k, "score_key": ranking.key, "heads": described["global"]}
    made_with = Requested(_settings(run), run.meta.outputs)
    place.finish(StepERecord, {**fields, **made_with._asdict()}, outputs, **more, norm=float(overall.norm()))
    n_qids = len(effects.qids)
    log.info("StepE: top %d heads, %d relation vectors and the global one in %s", ranking.k, n_qids, place.folder)


def quick_flow(run: LiveRun) -> Flow[tuple[GridResults, HeldOutRows | None]]:
    """Inject the global vector into the eval trials of all relations: the quick evaluation."""
    score, injection = run.settings.score, run.settings.injection
    ranking = Ranking.of(score)
    values = TopHeads.of(run.effects, ranking, score.called("k")).global_by_layer(run.lm).sum(0)  # (d_model,)
    vector = Vector(GLOBAL.name, GLOBAL.name, None, values, score.k)
    cells, evaluation = grid(injection, run.lm.n_layers), run.evaluation_by(ranking)
    return evaluation.flow([(vector, run.snapshot.qids)], cells, injection.n_eval, held_out=False)
