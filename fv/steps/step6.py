"""Step6: function vectors into zero-shot prompts -> effect per (fv, eval relation, layer, alpha) (spec section 2).

Reads the snapshot and StepE's vectors only: never the CSV, never samples.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from fv.artifacts import (
    AIE_META,
    FV_META,
    RunPaths,
    digest_of,
    hash_outputs,
    locked,
    read_torch,
    sha256_of,
    verify_outputs,
    write_json,
    write_jsonl,
)
from fv.config import Config, FvChoice
from fv.engine import make_sweep
from fv.errors import ArtifactError, ConfigError, shorten
from fv.evaluation import EvalTrial, evaluate, n_rows, records, summary_json
from fv.injection import Vector, grid, read_vector, scope_of
from fv.logs import log_to_file
from fv.models.language_model import LanguageModel
from fv.models.loading import load_model
from fv.progress import progress_bar
from fv.run import finished_stepd, now, read_meta, refuse_difference, refuse_other_model, start_job, step_meta
from fv.snapshot import Snapshot, read_snapshot
from fv.steps.sampling import check_tokens, prompt_of
from fv.sweep import Cell

REMEDY = "Use another tag (tag=<name>), or overwrite=true."
log = logging.getLogger(__name__)


def run_step6(config: Config, as_cell: bool = False) -> Path:
    """Run Step6 over the grid of `injection.layer` and `injection.alpha`.

    Args:
        config: the configuration.
        as_cell: whether this is one job of a sweep. Its files then go to a folder of its own,
            `cells/<digest of its settings>/`, from which `fv.steps.gather` makes the sweep's summary.

    Returns:
        the folder of its artifacts.

    Raises:
        FvError: an earlier step is missing, of another configuration or changed; a q_id or layer is not possible;
            Step6 ran here with other settings.
    """
    start_job(config)
    paths = RunPaths.of(config)
    stepd_meta = finished_stepd(paths, config)
    trials = {"sampled_trials.json": stepd_meta["outputs"]["sampled_trials.json"]}
    verify_outputs(paths.artifacts, trials, "StepD")
    inputs = trials | _vector_inputs(config, paths, trials)
    settings = step6_settings(config)
    folder = paths.step6 / "cells" / digest_of([settings, inputs])[:16] if as_cell else paths.step6
    with locked(folder), log_to_file(folder / "step6.log"):
        if _is_done(folder, settings, inputs, config.overwrite):
            log.info("Step6 in %s is complete already.", folder)
            return folder
        snapshot = read_snapshot(paths.snapshot)
        lm = load_model(config)
        refuse_other_model(stepd_meta, lm, paths)
        check_tokens(snapshot, lm, paths.snapshot)
        cells = grid(config.injection, lm.n_layers)
        plan = _plan(config, snapshot, _read_vectors(config, paths, lm, snapshot))
        (folder / "eval_meta.json").unlink(missing_ok=True)
        meta = step_meta("step6", config, lm, settings=settings, inputs=inputs)
        rows = evaluate_vectors("Step6", config, lm, snapshot, plan, cells)
        qids = sorted({q_id for _, scope in plan for q_id in scope})
        write_results(folder, rows, {**meta, **_scope_meta(config, snapshot, qids), "finished": now()}, lm.name)
        log.info("Step6: %d vectors, %d relations, %d cells in %s", len(plan), len(qids), len(cells), folder)
    return folder


def step6_settings(config: Config) -> dict[str, Any]:
    """What a Step6 folder is made with."""
    values = config.resolved()
    skipped = ("quick_eval", "fv_path")  # the first is StepE's; the file itself is among the inputs, by its hash
    settings = {f"injection.{key}": value for key, value in values["injection"].items() if key not in skipped}
    return settings | {f"eval_scope.{key}": value for key, value in values["eval_scope"].items()}


def evaluate_vectors(
    step: str,
    config: Config,
    lm: LanguageModel,
    snapshot: Snapshot,
    plan: Sequence[tuple[Vector, Sequence[str]]],
    cells: Sequence[Cell],
) -> pd.DataFrame:
    """Evaluate vectors on the eval trials of their relations; returns trial rows (`fv.evaluation`)."""
    trials = {q_id: _eval_trials(config, lm, snapshot, q_id) for q_id in snapshot.qids}
    with_trials = [(vector, [trial for q_id in qids for trial in trials[q_id]]) for vector, qids in plan]
    sweep = make_sweep(lm, config.compute.sweep.value, config.compute.max_rows)
    with progress_bar(step, n_rows(with_trials, cells)) as (advance, _):
        return evaluate(sweep, with_trials, cells, advance)


def write_results(folder: Path, rows: pd.DataFrame, meta: dict[str, Any], model_name: str) -> None:
    """Write Step6's files; the metadata last, for its `status: ok` says that the others are there."""
    summary = summary_json(rows)
    n_trials = rows["trial_id"].nunique()
    label = f"{model_name}_layer{_label(summary['layers'])}_n{n_trials}"
    write_json(folder / "eval_summary.json", summary)
    write_jsonl(folder / "eval_trials.jsonl", records(rows))
    write_json(folder / f"step6_results_{label}.json", summary)
    outputs = hash_outputs(folder, ["eval_summary.json", "eval_trials.jsonl", f"step6_results_{label}.json"])
    done = {**meta, "status": "ok", "n_eval_trials": n_trials, "outputs": outputs}
    write_json(folder / f"metadata_step6_{label}.json", done)
    write_json(folder / "eval_meta.json", done)


def _label(layers: Sequence[int]) -> str:
    """Layers in a file name: runs of neighbours as `0-29`, many scattered ones by their hash."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    label = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return label if len(label) <= 60 else f"{len(layers)}x{digest_of(list(layers))[:12]}"


def _is_done(folder: Path, settings: dict[str, Any], inputs: dict[str, str], overwrite: bool) -> bool:
    if overwrite or not (folder / "eval_meta.json").exists():
        return False
    meta = read_meta(folder / "eval_meta.json")
    refuse_difference(meta["settings"], settings, f"Step6 in {folder}", REMEDY)
    refuse_difference(meta["inputs"], inputs, f"Step6 in {folder} (made from other files)", REMEDY)
    verify_outputs(folder, meta["outputs"], "Step6")
    return True


def _vector_inputs(config: Config, paths: RunPaths, trials: dict[str, str]) -> dict[str, str]:
    """{file: SHA-256} of the vectors' file, after refusing one that StepE did not make from this run's trials."""
    injection = config.injection
    if injection.fv is FvChoice["file"]:
        path = Path(str(injection.fv_path))
        if not path.is_file():
            raise ArtifactError(f"injection.fv_path={path} does not exist.")
        _verify_beside(path, trials)
        return {"fv_file": sha256_of(path)}
    folder = paths.stepe_to_read
    if not (folder / FV_META).exists():
        command = f"python -m entrypoints.stepe run_id={config.run_id} (with this command's other settings)"
        raise ArtifactError(f"There are no function vectors in {folder}. Run StepE first: {command}")
    name = "fv_global_resid.pt" if injection.fv is FvChoice["global"] else "fv_qid.pt"
    if not (folder / name).exists():
        raise ArtifactError(f"{folder / name} is missing, though StepE wrote it. Run StepE again with overwrite=true.")
    _verify_beside(folder / name, trials)
    return {name: sha256_of(folder / name)}


def _verify_beside(path: Path, trials: dict[str, str]) -> None:
    """When a vector file has its metadata beside it, refuse it if it changed or is of another run's trials.

    Raises:
        ArtifactError: naming both hashes.
    """
    for name in (FV_META, AIE_META):
        meta_path = path.parent / name
        if not meta_path.exists():
            continue
        meta = read_meta(meta_path)
        if path.name in meta["outputs"]:
            verify_outputs(path.parent, {path.name: meta["outputs"][path.name]}, "StepE")
            there = {"sampled_trials.json": meta["inputs"]["sampled_trials.json"]}
            refuse_difference(
                there, trials, f"The vector {path}", "It is of another run: artifacts of two runs are mixed."
            )


def _read_vectors(config: Config, paths: RunPaths, lm: LanguageModel, snapshot: Snapshot) -> list[Vector]:
    injection = config.injection
    if injection.fv is FvChoice["file"]:
        values = read_vector(Path(str(injection.fv_path)), lm)
        return [Vector("file", "file", injection.fv_source_qid, values)]
    if injection.fv is FvChoice["global"]:
        return [Vector("global", "global", None, read_vector(paths.stepe_to_read / "fv_global_resid.pt", lm))]
    stored = read_torch(paths.stepe_to_read / "fv_qid.pt")
    vectors = {q_id: item["vector"].to(torch.promote_types(lm.dtype, torch.float32)) for q_id, item in stored.items()}
    if injection.fv is FvChoice["all_qids"]:
        return [Vector(q_id, "qid", q_id, vectors[q_id]) for q_id in sorted(vectors)]
    source = str(injection.fv_source_qid)
    if source not in vectors:
        raise ConfigError(
            f"injection.fv_source_qid={source} is not in the snapshot; it has {shorten(snapshot.qids, 40)}."
        )
    return [Vector(source, "qid", source, vectors[source])]


def _plan(config: Config, snapshot: Snapshot, vectors: Sequence[Vector]) -> list[tuple[Vector, list[str]]]:
    """Each vector with the relations it is evaluated on."""
    known = [q_id for q_id in snapshot.qids if snapshot.of(q_id, snapshot.eval_split)]
    for q_id in sorted(set(snapshot.qids) - set(known)):
        log.warning("%s has no eval trials in the snapshot and is left out.", q_id)
    alone = config.injection.fv is not FvChoice["all_qids"]
    plan = [(vector, scope_of(vector, config.eval_scope, alone, known)) for vector in vectors]
    if not any(qids for _, qids in plan):
        raise ConfigError(
            "No relation of the snapshot has eval trials. Sample some: data.n_eval_trials_per_q, or data.split=shared."
        )
    return plan


def _eval_trials(config: Config, lm: LanguageModel, snapshot: Snapshot, q_id: str) -> list[EvalTrial]:
    trials = snapshot.of(q_id, snapshot.eval_split, config.injection.n_eval)
    return [
        EvalTrial(t.trial_id, q_id, prompt_of(lm, snapshot, t.zero_shot_prompt_str, t.target_first_token_id))
        for t in trials
    ]


def _scope_meta(config: Config, snapshot: Snapshot, qids: Sequence[str]) -> dict[str, Any]:
    """The keys that spec sections 4 and 7.2 want in `eval_meta.json`."""
    return {
        "eval_scope": config.eval_scope.mode.value,
        "eval_qids": list(qids),
        "eval_split": snapshot.eval_split,
        "fv": config.injection.fv.value,
        "fv_source_qid": config.injection.fv_source_qid,
        "trials_per_qid": {q: len(snapshot.of(q, snapshot.eval_split, config.injection.n_eval)) for q in qids},
        "dropped_qids": snapshot.meta.dropped_qids,
        "counts": {q: counts.model_dump() for q, counts in snapshot.meta.counts.items()},
    }
