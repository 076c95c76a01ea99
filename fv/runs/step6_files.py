"""Step6's files: written by a single job and by a gathered sweep alike, and read where a run grows (spec section 4)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fv.config import Config
from fv.data.snapshot import Snapshot
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.summary import records
from fv.evaluation.trial_rows import TRIAL_COLUMNS
from fv.files import digest_of, read_jsonl
from fv.runs.identity import as_recorded, flat
from fv.runs.metadata import finished
from fv.runs.outputs import Outputs, verify_outputs
from fv.runs.paths import STEP6_META
from fv.runs.records import read_meta, write_meta

META = STEP6_META
TRIALS = "eval_trials.jsonl"
SWEPT = ("injection.layer", "injection.alpha")
"""The settings that a Step6 may grow by, and that the jobs of a sweep differ in."""


def write_rows(folder: Path, rows: pd.DataFrame, held_out: HeldOutResults | None) -> Outputs:
    """Write what a Step6 measured.

    Args:
        folder: where to.
        rows: trial rows of the grid.
        held_out: results on the test trials, if there are any.
    """
    outputs = Outputs(folder)
    outputs.jsonl(TRIALS, records(rows))
    if held_out is not None:
        outputs.jsonl("held_out_trials.jsonl", records(held_out.trials))
        for name, table in held_out.tables.items():
            outputs.csv(f"{name}.csv", table)
    return outputs


def write_summary(
    outputs: Outputs, config: Config, snapshot: Snapshot, n_trials: int, summary: dict[str, Any], meta: dict[str, Any]
) -> None:
    """Write what it comes to; the metadata last, for its `status: ok` says that all else is there.

    Args:
        outputs: what `write_rows` wrote.
        config: the configuration of the whole grid.
        snapshot: the trials.
        n_trials: how many of them were evaluated on.
        summary: of both parts.
        meta: the step's metadata so far.
    """
    label = f"{config.model.name}_layer{_label(summary['layers'])}_n{n_trials}"
    outputs.json("eval_summary.json", summary)
    outputs.copy(f"step6_results_{label}.json", of="eval_summary.json")  # spec section 4 wants both names
    of_scope = _scope_meta(config, snapshot, summary["eval_qids"])
    done = finished({**meta, **of_scope}, outputs, n_eval_trials=n_trials)
    write_meta(outputs.folder / f"metadata_step6_{label}.json", done)
    write_meta(outputs.folder / META, done)


def read_trial_rows(folder: Path) -> pd.DataFrame:
    """The trial rows of a Step6, floats exactly as written.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    return pd.DataFrame(read_jsonl(folder / TRIALS))


class Known(NamedTuple):
    """What a finished Step6 has of the one that is asked for: trial rows, and the settings that have grown since."""

    rows: pd.DataFrame
    grown: list[str]


def rows_to_grow_from(folder: Path, settings: dict[str, Any], inputs: dict[str, str]) -> Known | None:
    """A finished Step6 that differs from this one in having fewer layers or alphas; None if there is none.

    Raises:
        ArtifactError: its files were changed.
    """
    if not (folder / META).exists():
        return None
    meta = read_meta(folder / META)
    changed = grown_settings(meta["settings"], settings)
    if not changed or meta["inputs"] != inputs:
        return None
    verify_outputs(folder, meta["outputs"], "Step6")
    rows = read_trial_rows(folder)
    # An older version told less of a trial.
    return Known(rows, changed) if set(TRIAL_COLUMNS) <= set(rows.columns) else None


def grown_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The settings that have grown since a Step6 was made; none where any other differs, or none at all.

    Args:
        there: the settings of the finished one.
        here: those that are asked for.
    """
    before, now = as_recorded(there, here), flat(here)
    changed = [key for key in now if before[key] != now[key]]
    return changed if all(_has_grown(key, before[key], now[key]) for key in changed) else []


def _has_grown(key: str, there: Any, here: Any) -> bool:
    """Whether a setting names all layers or alphas that it named before, and more."""
    if key not in SWEPT:
        return False
    return here == "all" or (there != "all" and set(there) < set(here))


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
        "trials_per_qid": {q: len(snapshot.evaluated(q, config.injection.n_eval)) for q in qids},
        "dropped_qids": snapshot.meta.dropped_qids,
        "counts": {q: counts.model_dump() for q, counts in snapshot.meta.counts.items()},
    }
