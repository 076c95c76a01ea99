"""Step6's files from its trial rows: the grid's summary, and what the test trials say of the chosen cells.

A single job and a gathered sweep write through here, so the same rows end as the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fv.config import Config
from fv.data.snapshot import Snapshot
from fv.evaluation.candidates import CandidatesOfRelations
from fv.evaluation.caveats import EXACT, caveats, says_nothing
from fv.evaluation.held_out import HeldOutRows, HeldOutRun
from fv.evaluation.selection import choose_cells
from fv.evaluation.summary import records, summary_json
from fv.evaluation.tables import KEY, contrasts_table, cost_table, means_table
from fv.evaluation.transfer import cosine_table, dominance_of_each_k, transfer_matrix, transfer_table
from fv.files import digest_of, write_csv, write_json, write_jsonl
from fv.interventions.engine import Cell, Engine
from fv.models.language_model import LanguageModel
from fv.runs.metadata import now
from fv.runs.outputs import hash_outputs
from fv.runs.paths import RunPaths
from fv.runs.results import StepdResults, ranking_of
from fv.statistics.grouped import SPREAD
from fv.statistics.intervals import INTERVAL
from fv.steps.vectors import vectors_of
from fv.units import UnitStore
from fv.vectors.vector import Vector

WHERE = ["layer", "alpha", "norm", "relative_norm", "of", "compared_with", "all_draws"]


def evaluate_held_out(
    config: Config, lm: LanguageModel, engine: Engine, stepd: StepdResults, rows: pd.DataFrame, units: UnitStore
) -> tuple[HeldOutRows, list[Vector]]:
    """Choose a cell for each (fv, relation) from the grid's rows and run it on the test trials.

    Args:
        config: the configuration of the whole grid.
        lm: the model.
        engine: the engine.
        stepd: StepD's artifacts.
        rows: trial rows of the grid.
        units: finished conditions of relations, to read and to add to.

    Returns:
        the conditions' rows, and the vectors.
    """
    paths = RunPaths.of(config)
    vectors = vectors_of(config, paths, lm, stepd)
    cells = sorted({Cell(int(layer), float(alpha)) for layer, alpha in zip(rows["layer"], rows["alpha"], strict=True)})
    parts = dict(zip(rows["trial_id"], rows["part"], strict=True))
    named = {vector.name: vector for vector in vectors}
    evaluation, alpha_unit, ranking = config.evaluation, config.injection.alpha_unit, ranking_of(config, paths)
    candidates = CandidatesOfRelations(evaluation, alpha_unit, config.seed, lm, stepd.measured, ranking, cells)
    max_rows = config.compute.max_rows
    run = HeldOutRun(engine, stepd.snapshot, candidates, named, choose_cells(rows), parts, max_rows)
    return run.run(units), vectors


def write_results(
    folder: Path,
    config: Config,
    stepd: StepdResults,
    rows: pd.DataFrame,
    held_out: tuple[HeldOutRows, list[Vector]] | None,
    meta: dict[str, Any],
) -> None:
    """Write Step6's files; the metadata last, for its `status: ok` says that the others are there.

    Args:
        folder: where to.
        config: the configuration of the whole grid.
        stepd: StepD's artifacts.
        rows: trial rows of the grid.
        held_out: what `evaluate_held_out` gave; None for the grid alone.
        meta: the step's metadata so far.
    """
    snapshot = stepd.snapshot
    summary = summary_json(rows, stepd.measured.residual_norms, config.stats, config.seed)
    summary |= {
        "alpha_unit": config.injection.alpha_unit.value,
        "eval_split": snapshot.eval_split,
        "warnings": [*stepd.warnings, *caveats(snapshot, stepd.measured, rows, config.data.called("split"))],
    }
    n_trials = rows["trial_id"].nunique()
    label = f"{config.model.name}_layer{_label(summary['layers'])}_n{n_trials}"
    write_jsonl(folder / "eval_trials.jsonl", records(rows))
    names = ["eval_summary.json", "eval_trials.jsonl", f"step6_results_{label}.json"]
    if held_out is not None:
        found, names_found = _write_held_out(folder, config, snapshot, *held_out)
        summary |= found
        names += names_found
    write_json(folder / "eval_summary.json", summary)
    write_json(folder / f"step6_results_{label}.json", summary)
    done = {
        **meta,
        **_scope_meta(config, snapshot, summary["eval_qids"]),
        "status": "ok",
        "finished": now(),
        "n_eval_trials": n_trials,
        "outputs": hash_outputs(folder, names),
    }
    write_json(folder / f"metadata_step6_{label}.json", done)
    write_json(folder / "eval_meta.json", done)


def _write_held_out(
    folder: Path, config: Config, snapshot: Snapshot, found: HeldOutRows, vectors: Sequence[Vector]
) -> tuple[dict[str, Any], list[str]]:
    """Write the tables of the test trials; returns what the summary says of them, and the files' names."""
    stats, seed = config.stats, config.seed
    trials = pd.concat(found.trials, ignore_index=True).astype({"layer": "Int64"})
    means, contrasts = means_table(trials, stats, seed), contrasts_table(trials, stats, seed)
    where = trials.drop_duplicates([*KEY, "draw"])[[*KEY, "draw", *WHERE]]
    transfer = transfer_table(means, contrasts, vectors)
    tables = {
        "held_out": means.merge(where, on=[*KEY, "draw"]),
        "contrasts": contrasts,
        "transfer": transfer,
        "transfer_matrix": transfer_matrix(transfer),
        "fv_cosines": cosine_table(vectors),
    }
    if found.costs:
        costs = cost_table(pd.concat(found.costs, ignore_index=True), stats, seed)
        tables["injection_cost"] = costs.merge(where, on=[*KEY, "draw"])
    write_jsonl(folder / "held_out_trials.jsonl", records(trials))
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    summary = {
        "relations": records(_with_collisions(pd.concat(found.relations, ignore_index=True), snapshot)),
        "held_out": _nested(tables["held_out"], [*KEY, "draw", *WHERE, "subset", "n"]),
        "contrasts": _nested(contrasts, [*KEY, "minus", "subset", "n", "n_draws"], SPREAD[1:]),
        "injection_cost": records(tables["injection_cost"]) if found.costs else [],
        "transfer": {"dominance": dominance_of_each_k(trials, vectors, stats, seed), "rows": records(transfer)},
    }
    return summary, ["held_out_trials.jsonl", *(f"{name}.csv" for name in tables)]


def _with_collisions(relations: pd.DataFrame, snapshot: Snapshot) -> pd.DataFrame:
    """The relations' rows with how often first tokens collide, and the metric that tables lead with for it."""
    rates = {q_id: found.rate for q_id, found in snapshot.meta.first_token_collisions.items()}
    collided = relations.assign(collision_rate=relations["eval_qid"].map(rates))
    return collided.assign(
        lead_metric=[EXACT if q_id in says_nothing(rates) else "top1" for q_id in collided["eval_qid"]]
    )


def _nested(table: pd.DataFrame, key: Sequence[str], more: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of one metric each as one object a key, with its metrics inside."""
    nested: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in records(table):
        own = nested.setdefault(tuple(row[name] for name in key), {name: row[name] for name in key} | {"metrics": {}})
        own["metrics"][row["metric"]] = {name: row[name] for name in (*INTERVAL, *more)}
    return list(nested.values())


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


def _scope_meta(config: Config, snapshot: Snapshot, qids: Sequence[str]) -> dict[str, Any]:
    """The keys that spec sections 4 and 7.2 want in `eval_meta.json`."""
    return {
        "eval_scope": config.eval_scope.mode.value,
        "eval_qids": list(qids),
        "eval_split": snapshot.eval_split,
        "fv": config.injection.fv,
        "fv_source_qid": config.injection.fv_source_qid,
        "trials_per_qid": {q: len(snapshot.of(q, snapshot.eval_split, config.injection.n_eval)) for q in qids},
        "dropped_qids": snapshot.meta.dropped_qids,
        "counts": {q: counts.model_dump() for q, counts in snapshot.meta.counts.items()},
    }
