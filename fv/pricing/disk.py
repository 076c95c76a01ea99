"""Disk space of a run, approximately: its units and its results."""

from typing import NamedTuple

from fv.pricing.workload import Workload

EFFECT = 16
"""Bytes of a head's effect on a trial: on log p and on p, in float64."""
GRID_ROW = 16
"""Bytes of a trial at a cell in a unit: log p and rank."""
TRIAL_LINE = 541
"""Bytes of a line of `eval_trials.jsonl`, measured in the demo's run."""
HELD_OUT = 1_310_000
"""Bytes of the tables and summaries of test trials, per vector and relation. The demo's 16, with 14 trials each, take
21.0 MB."""


class Disk(NamedTuple):
    """Bytes of units, which may be deleted, and of results."""

    units: int
    results: int


def disk_of(load: Workload) -> Disk:
    """Disk space of an exact run; a screened run stores effects of fewer heads."""
    shape, qids, snapshot = load.shape, load.snapshot.qids, load.snapshot
    n_fit = sum(len(snapshot.of(q_id, "fit")) for q_id in qids)
    outputs = shape.n_layers * shape.attention_width * 4  # of all heads, in float32
    residual = shape.n_layers * shape.d_model * 4
    effects = n_fit * len(load.heads) * EFFECT
    rows = sum(len(snapshot.evaluated(q_id, load.n_eval)) for _, on in load.vectors for q_id in on)
    cells = rows * len(load.cells)
    # Stored as float32: head outputs and residual streams of clean and zero-shot prompts, head outputs of corrupted.
    units = n_fit * (3 * outputs + 2 * residual) + effects + cells * GRID_ROW
    means = len(qids) * (3 * outputs + 2 * residual) + n_fit * 2 * outputs
    held_out = sum(len(on) for _, on in load.vectors) * HELD_OUT if load.evaluation.held_out else 0
    return Disk(units, effects + means + cells * TRIAL_LINE + held_out)
