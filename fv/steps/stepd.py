"""StepD: relation CSV -> trials -> clean means -> CIE of every head for every relation -> AIE (spec section 2).

Each relation is a unit of its own, written when done; giving the same command again after a kill goes on with
the relations that are missing and ends with the same bytes.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from fv.config import Config
from fv.data.relations import RelationFile, read_relations
from fv.data.sampling import log_warnings, replay_snapshot, sample_snapshot
from fv.data.snapshot import Snapshot, read_snapshot, write_snapshot
from fv.errors import ArtifactError
from fv.files import sha256_of, write_csv, write_json, write_jsonl, write_torch
from fv.heads.activations import mean_of_means
from fv.heads.indirect_effect import TrialEffects, aie_stats, aie_table, cie_stats, cie_table
from fv.heads.ranking import heads_to_sweep
from fv.heads.relation_run import RelationRuns, Unit
from fv.heads.stability import with_other_halves
from fv.interventions.engine import Head
from fv.interventions.engines import make_engine
from fv.models.language_model import LanguageModel
from fv.models.special_tokens import special_tokens_warning, used_tokens
from fv.progress import progress_bar
from fv.runs.effect_files import write_trial_effects
from fv.runs.identity import identity, refuse_changed_relations, relation_digests
from fv.runs.logs import log_to_file
from fv.runs.mean_files import write_clean_mean, write_other_means
from fv.runs.metadata import (
    OTHER_RUN,
    TRIALS,
    clear_run,
    now,
    read_meta,
    refuse_other_model,
    refuse_other_run,
    refuse_other_trials,
    start_job,
    stats_settings,
    step_meta,
)
from fv.runs.outputs import hash_outputs, verify_outputs
from fv.runs.paths import RunPaths, locked, refuse_one_file
from fv.runs.units import disk_use, unit_store
from fv.steps.advice import with_settings
from fv.steps.holder import ModelHolder

log = logging.getLogger(__name__)


@with_settings()
def run_stepd(config: Config, models: ModelHolder | None = None) -> Path:
    """Run StepD, or what is missing of it.

    Args:
        config: the configuration.
        models: gives the model, if one is needed; None loads it for this step alone.

    Returns:
        the run's folder.

    Raises:
        FvError: any row of spec section 7 that concerns inputs, model or run directory.
    """
    start_job(config)
    paths = RunPaths.of(config)
    file = None if config.data.fixed_trials_path else read_relations(config.data)
    made_with = _made_with(config, file)
    seen = _state(paths.stepd_meta)
    if not config.overwrite and _is_complete(paths, config, made_with):
        log.info("StepD in %s is complete already.", paths.root)
        return paths.root
    lm = (models or ModelHolder()).of(config)
    if file is None:
        snapshot = replay_snapshot(Path(str(config.data.fixed_trials_path)), config.data.qids, lm)
    else:
        special, name = config.model.add_special_tokens, config.model.called("add_special_tokens")
        snapshot = sample_snapshot(file, config.data, config.seed, lm, special, name)
    heads = heads_to_sweep(config.score.layers, config.score.heads, lm.n_layers, lm.n_heads, config.score.called)
    with locked(paths.root):
        refuse_one_file(paths.root, snapshot.qids)
        # Another process may have done it while this one loaded its model.
        if _state(paths.stepd_meta) != seen and not config.overwrite and _is_complete(paths, config, made_with):
            log.info("StepD in %s was completed by another process.", paths.root)
            return paths.root
        if config.overwrite:
            clear_run(paths)
        elif paths.snapshot.exists():
            refuse_other_trials(read_snapshot(paths.snapshot), snapshot, paths)
        with log_to_file(paths.logs / "stepD_aie.log"):
            _run(config, paths, lm, snapshot, heads, made_with, file)
    return paths.root


def stepd_is_complete(config: Config) -> bool:
    """Whether the run has the very StepD that `config` asks for, whole."""
    file = None if config.data.fixed_trials_path else read_relations(config.data)
    try:
        return _is_complete(RunPaths.of(config), config, _made_with(config, file))
    except ArtifactError:
        return False


def _state(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _made_with(config: Config, file: RelationFile | None) -> dict[str, Any]:
    """What StepD's outputs are made with."""
    return {
        "identity": identity(config.resolved()),
        "source": _source_digest(config, file),
        "qids": config.data.qids,
        "relations": relation_digests(file) if file else None,
        "stats": stats_settings(config),
    }


def _is_complete(paths: RunPaths, config: Config, made_with: dict[str, Any]) -> bool:
    """Whether this very StepD is complete; refuses a run directory of another configuration."""
    if not paths.stepd_meta.exists():
        return False
    meta = read_meta(paths.stepd_meta)
    refuse_other_run(paths, meta, config, may_grow=True)
    there = meta.get("made_with") or _made_with_before(meta)
    if there["relations"] and made_with["relations"]:
        refuse_changed_relations(there["relations"], made_with["relations"], f"The run in {paths.root}", OTHER_RUN)
    # What decides results is the run's, or was refused above; but there may be more of it now.
    same = ("stats", "relations") if there["relations"] else ("stats", "source", "qids")
    grown = there["identity"][TRIALS] != made_with["identity"][TRIALS]
    if meta["status"] != "ok" or grown or any(there[key] != made_with[key] for key in same):
        return False
    try:
        verify_outputs(paths.artifacts, meta["outputs"], "StepD")
    except ArtifactError as error:
        log.warning("%s. Making it again from the finished relations.", str(error).split(". ")[0].rstrip("."))
        return False
    return True


def _made_with_before(meta: dict[str, Any]) -> dict[str, Any]:
    """`_made_with` of a run from before relations had digests of their own."""
    return {
        "identity": identity(meta["config"]),
        "source": meta["sweep_identity"]["data.sha256"],
        "qids": meta["config"]["data"]["qids"],
        "relations": None,
        "stats": {f"stats.{key}": value for key, value in meta["config"]["stats"].items()},
    }


def _run(
    config: Config,
    paths: RunPaths,
    lm: LanguageModel,
    snapshot: Snapshot,
    heads: list[Head],
    made_with: dict[str, Any],
    file: RelationFile | None,
) -> None:
    special = snapshot.meta.add_special_tokens
    special_tokens = used_tokens(lm.tokenizer, special)
    setting = config.model.add_special_tokens
    warning = special_tokens_warning(lm.tokenizer, special, setting, config.model.called("add_special_tokens"))
    recorded = {"special_tokens": special_tokens, "warnings": [warning] if warning else []}
    meta = step_meta("stepD", config, lm, made_with=made_with, **recorded)
    if paths.stepd_meta.exists():
        refuse_other_model(read_meta(paths.stepd_meta), lm, paths)
    write_json(paths.stepd_meta, meta)
    write_snapshot(paths.snapshot, snapshot)
    log_warnings(file, snapshot, config.data.called)
    if warning:
        log.warning(warning)
    log.info(
        "StepD: %d relations, %d fit trials, %d heads of %s (%d layers x %d heads, %s sweep) in %s",
        *(len(snapshot.qids), sum(t.split == "fit" for t in snapshot.trials), len(heads)),
        *(lm.name, lm.n_layers, lm.n_heads, config.compute.sweep.value, paths.root),
    )
    compute = config.compute
    sweep = make_engine(lm, compute.sweep.value, compute.max_rows, compute.called("sweep"))
    store = unit_store(config, lm)
    units: dict[str, Unit] = {}
    n_patched = {q: len(snapshot.of(q, "fit", config.score.n_trials)) for q in snapshot.qids}
    with progress_bar("StepD", sum(n_patched.values())) as (advance, rename):
        score, n_mean, size = config.score, config.data.n_mean_trials, config.compute.unit_trials
        runs = RelationRuns(lm, snapshot, heads, sweep, score, config.seed, n_mean, size, store, advance)
        for q_id in snapshot.qids:
            rename(q_id)
            units[q_id] = unit = runs.relation(q_id)
            log.info("%s: %s", q_id, f"{unit.effects.n_trials} trials done" if unit.n_computed else "found finished")
    names = _write_outputs(config, paths, lm, snapshot, units)
    outputs = hash_outputs(paths.artifacts, names)
    write_json(
        paths.stepd_meta,
        {**meta, "status": "ok", "finished": now(), "computed_with": store.machines, "outputs": outputs},
    )
    log.info(disk_use(store, config.run_id))


def _write_outputs(
    config: Config, paths: RunPaths, lm: LanguageModel, snapshot: Snapshot, units: dict[str, Unit]
) -> list[str]:
    """Write StepD's artifacts from its units; returns their names."""
    cie = pd.concat([cie_table(q_id, unit.effects) for q_id, unit in units.items()], ignore_index=True)
    write_csv(paths.artifacts / "cie_scores.csv", cie)
    write_csv(paths.artifacts / "aie_scores.csv", aie_table(cie))
    patched = [trial for q_id, unit in units.items() for trial in snapshot.of(q_id, "fit", unit.effects.n_trials)]
    effects = {q_id: unit.effects for q_id, unit in units.items()}
    stats = with_other_halves(cie_stats(effects, config.stats, config.seed), effects, config.seed)
    write_csv(paths.artifacts / "cie_stats.csv", stats)
    write_csv(paths.artifacts / "aie_stats.csv", aie_stats(cie, config.stats, config.seed))
    write_trial_effects(
        paths.artifacts / "cie_trials.npz",
        [trial.trial_id for trial in patched],
        [trial.q_id for trial in patched],
        TrialEffects.cat([unit.effects for unit in units.values()]),
    )
    write_jsonl(paths.artifacts / "trial_metrics.jsonl", _metric_rows(snapshot, units))
    for q_id, unit in units.items():
        write_clean_mean(paths.qid_mean(q_id), unit.means.clean, lm.d_model)
        write_other_means(paths.qid_other_means(q_id), unit.means)
    global_mean = mean_of_means([unit.means.clean for unit in units.values()])
    write_clean_mean(paths.mean_acts / "global_clean_mean.pt", global_mean, lm.d_model)
    # The public reference code expects a token-slot axis before head_dim.
    write_torch(paths.artifacts / "mean_activations.pt", global_mean[:, :, None, :].clone())
    means = [*sorted(paths.mean_acts.glob("*.pt")), *map(paths.qid_other_means, units)]
    return [
        *("sampled_trials.json", "cie_scores.csv", "aie_scores.csv", "cie_stats.csv", "aie_stats.csv"),
        *("cie_trials.npz", "trial_metrics.jsonl", "mean_activations.pt"),
        *(path.relative_to(paths.artifacts).as_posix() for path in means),
    ]


def _metric_rows(snapshot: Snapshot, units: dict[str, Unit]) -> Iterator[dict[str, Any]]:
    for q_id, unit in units.items():
        for i, trial in enumerate(snapshot.of(q_id, "fit")):
            row: dict[str, Any] = {"trial_id": trial.trial_id, "q_id": q_id, "split": trial.split}
            for kind, scores in unit.metrics.items():
                row[f"{kind}_logprob"] = float(scores.logprob[i])
                row[f"{kind}_p"] = float(scores.p[i])
                row[f"{kind}_rank"] = int(scores.rank[i])
                row[f"{kind}_correct"] = bool(scores.correct[i])
            yield row


def _source_digest(config: Config, file: RelationFile | None) -> str:
    if file is not None:
        return file.sha256
    path = Path(str(config.data.fixed_trials_path))
    if not path.is_file():
        raise ArtifactError(f"data.fixed_trials_path={path} does not exist.")
    return sha256_of(path)
