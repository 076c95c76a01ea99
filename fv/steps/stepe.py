"""StepE: StepD's scores and clean means -> top-k heads -> function vectors (spec section 2).

Reads the snapshot and StepD's artifacts only: never the CSV, never samples.
"""

import logging
from pathlib import Path
from typing import Any

import pandas as pd

from fv.config import Config
from fv.errors import ConfigError, shorten
from fv.evaluation.cells import grid
from fv.evaluation.grid import Grid, eval_parts, evaluate_vectors, trials_of
from fv.evaluation.summary import summary_json
from fv.files import digest_of, write_csv, write_json, write_torch
from fv.heads.activations import mean_of_means
from fv.heads.indirect_effect import aie_table
from fv.heads.ranking import describe_heads, rank_heads, top_heads
from fv.heads.stability import effects_of, stability_report
from fv.interventions.engine import Head
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.runs.logs import log_to_file
from fv.runs.metadata import finished_stepd, is_complete, now, refuse_other_model, start_job, stats_settings, step_meta
from fv.runs.outputs import hash_outputs
from fv.runs.paths import AIE_META, FV_META, RunPaths, locked
from fv.runs.results import StepdResults, norms_of_alpha
from fv.steps.advice import with_settings
from fv.steps.holder import ModelHolder
from fv.vectors.controls import VectorHeads
from fv.vectors.function_vector import function_vector, vector_by_layer
from fv.vectors.measured import Ranking
from fv.vectors.names import ranking_name, source_name
from fv.vectors.vector import Vector

log = logging.getLogger(__name__)


@with_settings()
def run_stepe(config: Config, models: ModelHolder | None = None) -> Path:
    """Run StepE, and the AIE subset package when `score.aie_qids` names one.

    Args:
        config: the configuration.
        models: gives the model, if one is needed; None loads it for this step alone.

    Returns:
        the folder of its artifacts.

    Raises:
        FvError: StepD has not run, is of another configuration, or its files changed; `score.k` or a q_id is not
            possible; StepE ran here with other settings.
    """
    start_job(config)
    paths = RunPaths.of(config)
    stepd_meta = finished_stepd(paths, config)
    with locked(paths.stepe), log_to_file(paths.logs / "stepE.log"):
        stepd = StepdResults.read(paths, stepd_meta)
        fv_done = is_complete("StepE", paths.stepe / FV_META, _settings(config), stepd.hashes, config.overwrite)
        aie_folder = _aie_folder(config, paths, stepd)
        aie_done = aie_folder is None or is_complete(
            "StepE", aie_folder / AIE_META, _aie_settings(config), stepd.hashes, config.overwrite
        )
        if fv_done and aie_done:
            log.info("StepE in %s is complete already.", paths.stepe)
            return paths.stepe
        lm = (models or ModelHolder()).of(config)
        refuse_other_model(stepd_meta, lm, paths)
        if not fv_done:
            _write_vectors(config, paths, lm, stepd)
        if aie_folder is not None and not aie_done:
            _write_aie_package(config, aie_folder, lm, stepd)
    return paths.stepe


def _settings(config: Config) -> dict[str, Any]:
    score = config.score
    settings: dict[str, Any] = {"score.key": score.key.value, "score.k": score.k}
    settings["score.aie_leave_one_out"] = score.aie_leave_one_out
    settings |= stats_settings(config)
    injection = config.injection
    settings["injection.quick_eval"] = injection.quick_eval
    if injection.quick_eval:
        keys = ("layer", "alpha", "alpha_unit", "n_eval")
        settings |= {f"injection.{key}": getattr(injection, key) for key in keys}
        settings["evaluation.dev_fraction"] = config.evaluation.dev_fraction
    return settings


def _write_vectors(config: Config, paths: RunPaths, lm: LanguageModel, stepd: StepdResults) -> None:
    key, k, folder = config.score.key.value, config.score.k, paths.stepe
    ranking = Ranking(key, k, config.score.aie_leave_one_out)
    meta = step_meta("stepE", config, lm, settings=_settings(config), inputs=stepd.hashes)
    aie = aie_table(stepd.measured.cie)
    global_heads = top_heads(aie, key, k, config.score.called("k"))
    qids = stepd.snapshot.qids
    own = {q_id: stepd.measured.heads_of(q_id, ranking, k) for q_id in qids}
    of_aie = {q_id: stepd.measured.heads_of(q_id, ranking, k, aie=True) for q_id in qids}
    by_layer = vector_by_layer(
        lm, mean_of_means([means.clean for means in stepd.measured.means.values()]), global_heads
    )

    # The metadata goes last: a StepE that was killed has none, and is made again.
    (folder / FV_META).unlink(missing_ok=True)
    described = {
        "score_key": key,
        "k": k,
        "aie_leave_one_out": ranking.leave_one_out,
        "global": describe_heads(global_heads, aie, key),
        "per_qid": {
            q_id: describe_heads(made.heads, stepd.measured.scores_of(q_id), key) for q_id, made in own.items()
        },
        "aie_per_qid": {
            q_id: describe_heads(made.heads, stepd.measured.aie_scores(q_id if ranking.leave_one_out else None), key)
            for q_id, made in of_aie.items()
        },
    }
    write_json(folder / "top_heads.json", described)
    write_torch(folder / "fv_by_layer.pt", by_layer)
    write_torch(folder / "fv_global_resid.pt", by_layer.sum(0))
    names = ["top_heads.json", "fv_by_layer.pt", "fv_global_resid.pt"]
    for name, made in (("fv_qid.pt", own), ("fv_aie_qid.pt", of_aie)):
        write_torch(folder / name, {q_id: _vector_file(lm, made_of) for q_id, made_of in made.items()})
        names.append(name)
    names += _write_stability(config, folder, stepd)
    if config.injection.quick_eval:
        vector = Vector(source_name("global", None), "global", None, by_layer.sum(0), k)
        plan, cells = [(vector, qids)], grid(config.injection, lm.n_layers)
        n_eval, dev_fraction = config.injection.n_eval, config.evaluation.dev_fraction if len(cells) > 1 else 0.0
        parts = eval_parts(stepd.snapshot, qids, n_eval, dev_fraction, config.seed)
        trials = trials_of(lm, stepd.snapshot, qids, n_eval, parts)
        compute = config.compute
        engine = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
        on = Grid(plan, trials, cells, norms_of_alpha(config, stepd.measured))
        rows = evaluate_vectors("StepE", engine, on)
        write_json(
            folder / "stepE_eval.json", summary_json(rows, stepd.measured.residual_norms, config.stats, config.seed)
        )
        names.append("stepE_eval.json")
    outputs = hash_outputs(folder, names)
    described_vector = {
        "d_model": lm.d_model,
        "k": k,
        "score_key": key,
        "heads": described["global"],
        "norm": float(by_layer.sum(0).norm()),
    }
    write_json(folder / FV_META, {**meta, **described_vector, "status": "ok", "finished": now(), "outputs": outputs})
    log.info("StepE: top %d heads, %d relation vectors and the global one in %s", k, len(qids), folder)


def _vector_file(lm: LanguageModel, made_of: VectorHeads) -> dict[str, Any]:
    """One relation's vector with its heads, as the files of vectors hold it."""
    vector = function_vector(lm, made_of.means.clean, made_of.heads)
    return {"vector": vector, "heads": [tuple(head) for head in made_of.heads], "k": len(made_of.heads)}


def _write_stability(config: Config, folder: Path, stepd: StepdResults) -> list[str]:
    """How stable each ranking is: `ranking_stability.json` and `head_stability.csv`; returns their names."""
    key, k = config.score.key.value, config.score.k
    reports, tables = {}, []
    for of in (None, *stepd.snapshot.qids):
        name, qids = ranking_name(of), stepd.snapshot.qids if of is None else [of]
        effects = [effects_of(stepd.measured.effects[q_id], key) for q_id in qids]
        scores = stepd.measured.scores_of(of)
        report, chances = stability_report(effects, k, config.stats, config.seed, name)
        reports[name] = report
        ranking = rank_heads(scores.assign(inclusion=chances), key)
        tables.append(ranking.assign(ranking=name, rank=range(1, len(ranking) + 1)))
        gap = report["gap"]
        if gap is not None and gap["ci_low"] <= 0 <= gap["ci_high"]:
            log.info(
                "%s: k=%d cuts through a tie: the next head is %.2g below (%.0f%% interval %.2g to %.2g); "
                "%d heads below k are within error of it.",
                *(name, k, gap["mean"], 100 * config.stats.confidence, gap["ci_low"], gap["ci_high"]),
                gap["n_within_error"],
            )
    write_json(folder / "ranking_stability.json", {"score_key": key, "k": k, "rankings": reports})
    columns = ["ranking", "rank", "layer", "head", key, "inclusion"]
    write_csv(folder / "head_stability.csv", pd.concat(tables, ignore_index=True)[columns])
    return ["ranking_stability.json", "head_stability.csv"]


def _aie_settings(config: Config) -> dict[str, Any]:
    score = config.score
    return {"qids": score.aie_qids, "score_key": score.key.value, "k": score.k, "fv": score.aie_fv}


def _aie_folder(config: Config, paths: RunPaths, stepd: StepdResults) -> Path | None:
    """Where the AIE subset's package belongs; None when no subset is named."""
    if config.score.aie_qids is None:
        return None
    unknown = sorted(set(config.score.aie_qids) - set(stepd.snapshot.qids))
    if unknown:
        known = shorten(stepd.snapshot.qids, 40)
        raise ConfigError(f"score.aie_qids: {', '.join(unknown)} not in the snapshot; it has {known}.")
    aie_id = digest_of([_aie_settings(config), stepd.hashes["cie_scores.csv"]])[:16]
    return paths.artifacts / "aie" / aie_id


def _write_aie_package(config: Config, folder: Path, lm: LanguageModel, stepd: StepdResults) -> None:
    """`artifacts/aie/<aie_id>/` (spec sections 2 and 4.1): AIE over the subset, its ranking, its vector."""
    settings = _aie_settings(config)
    qids, key, k = settings["qids"], settings["score_key"], settings["k"]
    meta = step_meta("stepE-aie", config, lm, aie_id=folder.name, settings=settings, inputs=stepd.hashes)
    aie = aie_table(stepd.measured.cie, qids)
    heads: list[Head] = top_heads(aie, key, k, config.score.called("k"))
    write_json(folder / "selected_qids.json", {"aie_id": folder.name, "selected_qids": qids})
    write_csv(folder / "aie_scores.csv", aie)
    write_json(folder / "top_heads.json", {"score_key": key, "k": k, "heads": describe_heads(heads, aie, key)})
    names = ["selected_qids.json", "aie_scores.csv", "top_heads.json"]
    if config.score.aie_fv:
        subset_mean = mean_of_means([stepd.measured.means[q_id].clean for q_id in qids])
        write_torch(folder / "fv_global_resid.pt", function_vector(lm, subset_mean, heads))
        names.append("fv_global_resid.pt")
    write_json(folder / AIE_META, {**meta, "status": "ok", "finished": now(), "outputs": hash_outputs(folder, names)})
    log.info("AIE over %s: %s", ", ".join(qids), folder)
