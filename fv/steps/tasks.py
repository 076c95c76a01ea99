"""What the workers of a run are asked, as tasks with their costs; `fv.steps.worker` does them."""

import json
from collections.abc import Mapping
from typing import Any

from fv.cluster.work.stage import Task
from fv.data.snapshot import Snapshot
from fv.evaluation.candidates import Candidates
from fv.evaluation.grid import Plan, qids_of
from fv.files import digest_of
from fv.heads.piece import Kind, Piece
from fv.heads.relation_run import RelationRuns

VECTORS_EACH = 8
"""Vectors of a relation that one task of the grid injects: as many fill its passes."""
TEST_COSTS: Mapping[str, float] = dict(zip(Candidates._fields, (3.0, 2.0), strict=True))
"""What a test trial costs beside others, by whose conditions it runs: those of the default settings are priced so."""


def piece_task(runs: RelationRuns, piece: Piece, max_rows: int) -> Task:
    """The task that computes a piece; it costs about as many passes of a token through the model."""
    lengths = [len(prompt.token_ids) for prompt in runs.prompts(piece)]
    # A row of a patched head runs through the blocks above it: half of them, on average.
    rows = len(piece.heads or runs.heads) / 2 if piece.kind is Kind.effects else 0
    ask = {
        "do": "piece",
        "kind": piece.kind.value,
        "q_id": piece.q_id,
        "start": piece.start,
        "stop": piece.stop,
        "heads": [list(head) for head in piece.heads],
        "max_rows": max_rows,
    }
    name = f"{piece.kind.value}-{piece.q_id}-{piece.start}-{piece.stop}"
    if piece.heads:
        name += f"-{digest_of(ask['heads'])[:8]}"
    return Task(name, ask, piece.q_id, sum(lengths) + rows * len(lengths))


def grid_tasks(snapshot: Snapshot, plan: Plan) -> list[Task]:
    """The grid in parts: some of a relation's vectors each, as many as fill a pass of its cells."""
    tasks = []
    for q_id in qids_of(plan):
        names = [vector.name for vector, on in plan if q_id in on]
        for start in range(0, len(names), VECTORS_EACH):
            own = names[start : start + VECTORS_EACH]
            cost = len(snapshot.evaluated(q_id)) * len(own)
            ask = {"do": "grid", "q_id": q_id, "vectors": own}
            tasks.append(Task(f"grid-{q_id}-{digest_of(own)[:8]}", ask, q_id, cost))
    return tasks


def held_out_tasks(snapshot: Snapshot, plan: Plan) -> list[Task]:
    """The test trials of each relation, in the two parts that its conditions have."""
    return [
        Task(
            f"held_out-{q_id}-{part}",
            {"do": "held_out", "q_id": q_id, "part": part},
            q_id,
            cost * len(snapshot.evaluated(q_id)) * sum(q_id in on for _, on in plan),
        )
        for q_id in qids_of(plan)
        for part, cost in TEST_COSTS.items()
    ]


def analysis_task(name: str, unit: Any, written: dict[str, str] | None = None) -> Task:
    """The task that makes one piece of an analysis."""
    ask = {"do": "analysis", "name": name, "unit": unit, "written": written}
    return Task(f"{name}-{json.dumps(unit, ensure_ascii=False)}", ask, unit if isinstance(unit, str) else "")
