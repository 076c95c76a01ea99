"""Files of Step6: written by a single job or a gathered sweep, and read when a run grows (spec section 4)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import pandas as pd

from fv.config import EvalScopeConfig, InjectionConfig
from fv.data.snapshot import Snapshot
from fv.data.snapshot_meta import QidCounts
from fv.evaluation.eval_summary import EvalSummary
from fv.evaluation.held_out_results import HeldOutResults
from fv.evaluation.summary import records
from fv.files import digest_of, read_jsonl
from fv.runs.identity import flat, with_defaults
from fv.runs.outputs import Outputs, verify_outputs
from fv.runs.paths import STEP6_META
from fv.runs.records import Hashes, Step6Record, read_record

META = STEP6_META
TRIALS = "eval_trials.jsonl"
SWEPT = ("injection.layer", "injection.alpha")
"""Settings in which a Step6 may grow, and in which the jobs of a sweep differ."""


class ScopeFields(TypedDict):
    """Fields of `Step6Record` that describe the evaluation."""

    eval_scope: str
    eval_qids: list[str]
    eval_split: str
    fv: str | list[str]
    fv_source_qid: str | None
    trials_per_qid: dict[str, int]
    dropped_qids: list[str]
    counts: dict[str, QidCounts]


def write_rows(folder: Path, rows: pd.DataFrame, held_out: HeldOutResults | None) -> Outputs:
    """Write the measurements of a Step6.

    Args:
        folder: the folder to write into.
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


def write_summary(outputs: Outputs, model: str, summary: EvalSummary, n_trials: int) -> str:
    """Write the summary under both of its names (spec section 4).

    Args:
        outputs: the outputs of `write_rows`.
        model: the model's short name.
        summary: the summary.
        n_trials: the number of trials of the evaluation.

    Returns:
        the label of the second name, `step6_results_<label>.json`.
    """
    label = f"{model}_layer{_label(summary.layers)}_n{n_trials}"
    outputs.json("eval_summary.json", summary.as_json())
    outputs.copy(f"step6_results_{label}.json", of="eval_summary.json")
    return label


def read_trial_rows(folder: Path) -> pd.DataFrame:
    """Read the trial rows of a Step6; floats are exactly as they were written.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    return pd.DataFrame(read_jsonl(folder / TRIALS))


class Known(NamedTuple):
    """The trial rows of a finished Step6 that the requested one can keep, and the settings that have grown."""

    rows: pd.DataFrame
    grown: list[str]


def rows_to_grow_from(folder: Path, settings: Mapping[str, Any], inputs: Hashes) -> Known | None:
    """Read the rows of a finished Step6 that differs only in having fewer layers or alphas; None if there is none.

    Raises:
        ArtifactError: its files were changed.
    """
    if not (folder / META).exists():
        return None
    record = read_record(folder / META, Step6Record)
    grown = grown_settings(record.settings, settings)
    if not grown or record.inputs != inputs:
        return None
    verify_outputs(folder, record.outputs, "Step6")
    return Known(read_trial_rows(folder), grown)


def grown_settings(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The settings that have grown since a Step6 finished; empty if any other setting differs, too.

    Args:
        there: the settings of the finished Step6.
        here: the requested settings.
    """
    now = flat(here)
    before = with_defaults(flat(there), now)
    changed = [key for key in now if before[key] != now[key]]
    return changed if all(_has_grown(key, before[key], now[key]) for key in changed) else []


def _has_grown(key: str, there: Any, here: Any) -> bool:
    """True if a setting names all layers or alphas that it named before, and more."""
    if key not in SWEPT:
        return False
    return here == "all" or (there != "all" and set(there) < set(here))


def _label(layers: Sequence[int]) -> str:
    """Label of layers in a file name: consecutive layers as `0-29`, and a hash if the label would be long."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    label = ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
    return label if len(label) <= 60 else f"{len(layers)}x{digest_of(list(layers))[:12]}"


def scope_fields(
    scope: EvalScopeConfig, injection: InjectionConfig, snapshot: Snapshot, qids: Sequence[str]
) -> ScopeFields:
    """Make the fields of `eval_meta.json` that describe the evaluation (spec sections 4 and 7.2).

    Args:
        scope: the settings of the scope.
        injection: the settings of the whole grid.
        snapshot: the trials.
        qids: the relations of the evaluation.
    """
    return {
        "eval_scope": scope.mode.value,
        "eval_qids": list(qids),
        "eval_split": snapshot.eval_split,
        "fv": injection.fv,
        "fv_source_qid": injection.fv_source_qid,
        "trials_per_qid": {q: len(snapshot.evaluated(q, injection.n_eval)) for q in qids},
        "dropped_qids": snapshot.meta.dropped_qids,
        "counts": snapshot.meta.counts,
    }
