"""Completeness of a step: its requested outputs exist and are unchanged (spec sections 4 and 6)."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fv.config import Config, DataConfig
from fv.data.relations import Relations, read_configured
from fv.data.snapshot import Snapshot, read_snapshot
from fv.errors import ArtifactError, shorten
from fv.files import sha256_of
from fv.runs.commands import command
from fv.runs.identity import relation_digests
from fv.runs.outputs import find_flaw, verify_outputs
from fv.runs.paths import SNAPSHOT, RunPaths
from fv.runs.records import FOREIGN, ComputedRecord, MadeWith, StepDRecord, read_record
from fv.runs.refusals import (
    OTHER_RUN,
    REMEDY,
    refuse_changed_relations,
    refuse_difference,
    refuse_other_run,
    refuse_other_settings,
)

log = logging.getLogger(__name__)


def requested_relations(data: DataConfig) -> Relations | None:
    """Read the relations that trials are sampled from; None if trials are replayed.

    Raises:
        RelationError: they cannot be read.
    """
    return None if data.fixed_trials_path else read_configured(data)


def stepd_made_with(data: DataConfig, file: Relations | None) -> MadeWith:
    """The data that decide StepD's outputs.

    Args:
        data: the settings.
        file: the relations; None if trials are replayed.

    Raises:
        ArtifactError: the file of trials to replay does not exist.
    """
    if file:
        return MadeWith(source=file.sha256, relations=relation_digests(file))
    path = Path(str(data.fixed_trials_path))
    if not path.is_file():
        raise ArtifactError(f"{data.called('fixed_trials_path')}={path} does not exist.")
    return MadeWith(source=sha256_of(path), relations=None)


def stepd_is_complete(config: Config) -> bool:
    """True if the requested StepD is complete; False also if the run belongs to another configuration."""
    file = requested_relations(config.data)
    try:
        return has_stepd(config, file)
    except ArtifactError:
        return False


def has_stepd(config: Config, file: Relations | None) -> bool:
    """True if the requested StepD is complete.

    Args:
        config: the configuration.
        file: the relations; None if trials are replayed.

    Raises:
        ArtifactError: the run belongs to another configuration or has other pairs, or the file of trials to replay
            does not exist.
    """
    paths, made_with = RunPaths.of(config), stepd_made_with(config.data, file)
    if not paths.stepd_meta.exists():
        return False
    record = read_record(paths.stepd_meta, StepDRecord)
    refuse_other_run(paths, record, config, may_grow=True)
    there = record.made_with
    if there.relations and made_with.relations:
        refuse_changed_relations(there.relations, made_with.relations, paths)
        is_same = there.relations == made_with.relations
    else:
        is_same = there.source == made_with.source and record.config.data.qids == config.data.qids
    # Settings that decide results equal the run's: others were refused above. But more trials may be requested.
    grown = record.config.data.n_trials_per_q != config.data.n_trials_per_q
    if not (record.is_finished and is_same) or grown or record.config.stats != config.stats:
        return False
    if flaw := find_flaw(paths.artifacts, record.outputs, "StepD"):
        log.warning("%s. Making it again from the finished relations.", flaw.what)
        return False
    return True


def finished_stepd(config: Config) -> StepDRecord:
    """Read StepD's record, for a later step of the same run.

    Raises:
        ArtifactError: StepD has not finished, or the run belongs to another configuration.
    """
    paths = RunPaths.of(config)
    stepd = command("stepd", f"run_id={config.run_id} (with this command's other settings)")
    if not paths.stepd_meta.exists():
        raise ArtifactError(f"There is no StepD in {paths.root}. Run it first: {stepd}")
    record = read_record(paths.stepd_meta, StepDRecord)
    refuse_other_run(paths, record, config, may_grow=False)
    if not record.is_finished:
        raise ArtifactError(f"StepD in {paths.root} has not finished. Let it go on: {stepd}")
    verify_outputs(paths.artifacts, {SNAPSHOT: record.outputs[SNAPSHOT]}, "StepD")
    if config.data.qids is not None:
        known = sorted(read_snapshot(paths.snapshot).meta.counts)
        refuse_difference({"data.qids": known}, {"data.qids": config.data.qids}, f"The run in {paths.root}", OTHER_RUN)
    return record


def kept_trials(paths: RunPaths) -> Snapshot | None:
    """Read the trials of a run; None if it has none yet, or if their file is not the one that StepD wrote.

    Raises:
        ArtifactError: StepD has not finished, and the file cannot be read.
    """
    if not paths.snapshot.exists():
        return None
    outputs = read_record(paths.stepd_meta, StepDRecord).outputs if paths.stepd_meta.exists() else {}
    if SNAPSHOT in outputs:
        if flaw := find_flaw(paths.artifacts, {SNAPSHOT: outputs[SNAPSHOT]}, "StepD"):
            log.warning("%s. Its trials are drawn again.", flaw.what)
            return None
        return read_snapshot(paths.snapshot)
    try:
        return read_snapshot(paths.snapshot)
    except ArtifactError as error:
        raise ArtifactError(f"{error} Remove the file, and StepD draws the trials again.") from None


def is_complete(
    step: str,
    path: Path,
    kind: type[ComputedRecord],
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    defaults: Mapping[str, Any] | None = None,
) -> bool:
    """True if the outputs in a record's folder were made with these settings and inputs, and are unchanged.

    Outputs made with other inputs are stale: the run has grown, or an earlier step was made again. Then the result is
    False, and the log says so.

    Args:
        step: the name of the step or analysis in messages.
        path: the file of its record.
        kind: the class of the record.
        settings: the settings that decide the outputs, nested or dotted.
        inputs: {file: SHA-256} of the files that it reads.
        defaults: defaults of settings that are not in `Config`.

    Raises:
        ArtifactError: the outputs were made with other settings or with another vector file, or were changed.
    """
    if not path.exists():
        return False
    record, what = read_record(path, kind), f"{step} in {path.parent}"
    refuse_other_settings(record.settings, settings, what, REMEDY, defaults)
    there, here = ({name: of.get(name) for name in FOREIGN} for of in (record.inputs, inputs))
    refuse_difference(there, here, f"{what} (made from other files)", REMEDY)
    verify_outputs(path.parent, record.outputs, step)
    if changed := sorted(name for name in {*inputs, *record.inputs} if record.inputs.get(name) != inputs.get(name)):
        log.info("%s is stale: %s changed since. Making it again.", what, shorten(changed))
        return False
    return True
