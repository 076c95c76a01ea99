"""Progress of a run, read from its folder alone: its steps' records, its finished units, and its workers' records.

Imports no torch, so it answers at once, on any machine that sees the folder, during a run and after a crash.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fv.cluster.base.records import DONE, FAILED, RUNNING, STAGE, Record, StageRecord, read_stage
from fv.config import Config
from fv.display import print_table, print_text
from fv.errors import ArtifactError, shorten
from fv.files import read_json, reading
from fv.runs.paths import RunPaths, refuse_links
from fv.runs.step_outputs import StepOutputs, read_steps
from fv.work.store import unit_names

SHOWN = 3
"""Number of failed tasks whose errors are printed."""


class StepStatus(NamedTuple):
    """The status of a step, from its record.

    Attributes:
        step: `StepD`, `StepE` or `Step6`.
        status: `finished`, `begun`, `not begun`; or `stale` if its input files have changed since.
        when: the time of that, in UTC; empty if it is not begun.
    """

    step: str
    status: str
    when: str = ""


class StageStatus(NamedTuple):
    """The progress of a stage's tasks, for one relation or for all.

    Attributes:
        step: the step.
        stage: the stage.
        relation: the relation of the tasks; empty for all relations.
        done: the number of finished tasks.
        running: the number of tasks that have begun and not ended: their worker computes them, or died.
        failed: the number of failed tasks.
        missing: the number of tasks that have not begun.
        per_hour: the number of tasks finished per hour since the stage was last begun; 0 if none has finished.
        left: the seconds that the other tasks take at that rate, by predicted cost; None if there is no rate.
    """

    step: str
    stage: str
    relation: str
    done: int
    running: int
    failed: int
    missing: int
    per_hour: float
    left: float | None


class UnitsStatus(NamedTuple):
    """The finished units of one kind.

    Attributes:
        kind: the kind, such as `clean`, `effects`, `grid` or the name of an analysis.
        units: the number of units.
        relations: the relations that have such units.
        lacking: the other relations of the run.
    """

    kind: str
    units: int
    relations: Sequence[str]
    lacking: Sequence[str]


class RunStatus(NamedTuple):
    """The progress of a run.

    Attributes:
        root: its folder.
        steps: the status of its steps.
        stages: the stages that workers compute, in the order of their beginning, for all relations together.
        relations: the stages that have not ended, for each relation.
        running: records of tasks that have begun and not ended.
        failed: records of failed tasks.
        units: its finished units, by kind.
    """

    root: Path
    steps: Sequence[StepStatus]
    stages: Sequence[StageStatus]
    relations: Sequence[StageStatus]
    running: Sequence[Record]
    failed: Sequence[Record]
    units: Sequence[UnitsStatus]


def run_status(paths: RunPaths) -> RunStatus:
    """Read the progress of a run.

    Raises:
        ArtifactError: there is no such run.
    """
    if not paths.artifacts.is_dir() and not paths.stages.is_dir():
        raise ArtifactError(f"There is no run in {paths.root}. Name one: run_id=<run_id>.")
    refuse_links(paths.root)
    with reading(paths.stages):
        found = [read_stage(path.parent) for path in paths.stages.glob(f"*/{STAGE}")]
    stages = sorted(found, key=lambda stage: stage.begun)
    records = [record for stage in stages for record in stage.records.values()]
    steps = read_steps(paths)
    return RunStatus(
        paths.root,
        [_step(name, steps.get(name)) for name in ("StepD", "StepE", "Step6")],
        [_status(stage, None) for stage in stages],
        [_status(stage, relation) for stage in stages if not _has_ended(stage) for relation in _relations(stage)],
        [record for record in records if record.state == RUNNING],
        [record for record in records if record.state == FAILED],
        _units(paths),
    )


def _step(name: str, made: StepOutputs | None) -> StepStatus:
    if made is None:
        return StepStatus(name, "not begun")
    if not made.record.is_finished:
        return StepStatus(name, "begun", made.record.started)
    return StepStatus(name, "stale" if made.changed else "finished", made.record.finished)


def _units(paths: RunPaths) -> list[UnitsStatus]:
    """The finished units in a run's folder, by kind."""
    relations: dict[str, list[str]] = defaultdict(list)
    for _, name in unit_names(paths.units):
        relations[name.kind].append(name.relation)
    known = _relations_of(paths)
    found = []
    for kind, own in sorted(relations.items()):
        having = [q_id for q_id in known if q_id in own]
        found.append(UnitsStatus(kind, len(own), having, [q_id for q_id in known if q_id not in having]))
    return found


def _relations_of(paths: RunPaths) -> list[str]:
    """The relations of the run's trials; empty if trials are not sampled yet."""
    if not paths.snapshot.exists():
        return []
    with reading(paths.snapshot):
        return sorted(read_json(paths.snapshot)["meta"]["counts"])


def _relations(stage: StageRecord) -> list[str]:
    return sorted({task.relation for task in stage.tasks if task.relation})


def _has_ended(stage: StageRecord) -> bool:
    return all(stage.state_of(task) == DONE for task in stage.tasks)


def _status(stage: StageRecord, relation: str | None) -> StageStatus:
    """The progress of a stage, for one relation or for all."""
    tasks = [task for task in stage.tasks if relation in (None, task.relation)]
    states = Counter(stage.state_of(task) for task in tasks)
    recent = [task for task in tasks if stage.state_of(task) == DONE and _ended(stage, task.name) >= stage.begun]
    last = max((_ended(stage, task.name) for task in recent), default=stage.begun)
    seconds = last - stage.begun
    rest = sum(task.cost for task in tasks if stage.state_of(task) != DONE)
    per_second = sum(task.cost for task in recent) / seconds if seconds > 0 else 0.0
    return StageStatus(
        stage.step,
        stage.name,
        relation or "",
        states[DONE],
        states[RUNNING],
        states[FAILED],
        len(tasks) - states[DONE] - states[RUNNING] - states[FAILED],
        3600 * len(recent) / seconds if seconds > 0 else 0.0,
        rest / per_second if per_second else (0.0 if not rest else None),
    )


def _ended(stage: StageRecord, task: str) -> float:
    """The time at which a task ended, in seconds since 1970."""
    record = stage.records[task]
    return record.started + (record.seconds or 0.0)


def print_status(config: Config) -> None:
    """Print the progress of a run.

    Raises:
        ArtifactError: there is no such run.
    """
    paths = RunPaths.of(config)
    found = run_status(paths)
    print_table(f"{found.root}", ("step", "status", "when"), found.steps, n_text=3)
    if found.stages:
        names = ("stage", "relation", "done", "running", "failed", "missing", "an hour", "left")
        rows = [_row(stage, "all") for stage in found.stages]
        rows += [_row(stage, stage.relation) for stage in found.relations if stage.done + stage.missing > 1]
        print_table("Tasks of workers", names, rows, n_text=2)
    elif found.units:
        units = [(own.kind, own.units, len(own.relations), _named(own)) for own in found.units]
        print_table("Finished units", ("of", "units", "relations", "not yet of"), units)
    for record in found.running:
        print_text(f"Begun and not ended: {record.task} on {record.host}, {_ago(record.started)} ago.")
    for record in found.failed[:SHOWN]:
        print_text(f"Failed: {record.task} on {record.host}, {_ago(record.started)} ago:")
        print_text("\n".join(f"    {line}" for line in record.error))
    if len(found.failed) > SHOWN:
        print_text(f"{len(found.failed) - SHOWN} others failed; their records are in {paths.stages}.")


def _row(stage: StageStatus, relation: str) -> tuple[object, ...]:
    left = "?" if stage.left is None else _duration(stage.left) if stage.left else ""
    counts = (stage.done, stage.running, stage.failed, stage.missing)
    return (f"{stage.step}, {stage.stage}", relation, *counts, f"{stage.per_hour:.0f}", left)


def _named(units: UnitsStatus) -> str:
    """The relations that lack such units; empty for kinds of units that have no relation."""
    return shorten([*units.lacking], 6) if units.relations else ""


def _ago(started: float) -> str:
    return _duration(time.time() - started)


def _duration(seconds: float) -> str:
    """The two largest parts of a time: `2 h 5 min`, `3 min 20 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
