"""Whether a run has the very StepD that is asked for, whole (spec sections 4 and 6)."""

import logging
from pathlib import Path
from typing import Any

from fv.config import Config
from fv.data.relations import Relations, read_configured
from fv.data.snapshot import Snapshot, read_snapshot
from fv.errors import ArtifactError
from fv.files import reading, sha256_of
from fv.runs.identity import identity, refuse_changed_relations, relation_digests
from fv.runs.metadata import OTHER_RUN, TRIALS, refuse_other_run, stats_settings
from fv.runs.outputs import find_flaw
from fv.runs.paths import SNAPSHOT, RunPaths
from fv.runs.records import read_meta

log = logging.getLogger(__name__)


def stepd_is_complete(config: Config) -> bool:
    """Whether the run has the very StepD that `config` asks for, whole."""
    file = relations_asked(config)
    try:
        return has_stepd(RunPaths.of(config), config, stepd_made_with(config, file))
    except ArtifactError:
        return False


def relations_asked(config: Config) -> Relations | None:
    """The relations that trials are sampled from; None where trials are replayed.

    Raises:
        RelationError: they cannot be read.
    """
    return None if config.data.fixed_trials_path else read_configured(config.data)


def stepd_made_with(config: Config, file: Relations | None) -> dict[str, Any]:
    """What StepD's outputs are made with.

    Args:
        config: the configuration.
        file: the relations; None where trials are replayed.

    Raises:
        ArtifactError: there are no trials to replay.
    """
    return {
        "identity": identity(config.resolved()),
        "source": file.sha256 if file else _replayed_digest(config),
        "qids": config.data.qids,
        "relations": relation_digests(file) if file else None,
        "stats": stats_settings(config),
    }


def has_stepd(paths: RunPaths, config: Config, made_with: dict[str, Any]) -> bool:
    """Whether a run's StepD is the one that is `made_with` this, and complete.

    Raises:
        ArtifactError: the run is of another configuration, or of other pairs.
    """
    if not paths.stepd_meta.exists():
        return False
    meta = read_meta(paths.stepd_meta)
    refuse_other_run(paths, meta, config, may_grow=True)
    with reading(paths.stepd_meta):
        there = meta.get("made_with") or _made_with_before(meta)
        if there["relations"] and made_with["relations"]:
            refuse_changed_relations(there["relations"], made_with["relations"], f"The run in {paths.root}", OTHER_RUN)
        # What decides results is the run's, or was refused above; but there may be more of it now.
        same = ("stats", "relations") if there["relations"] else ("stats", "source", "qids")
        grown = there["identity"][TRIALS] != made_with["identity"][TRIALS]
    if meta["status"] != "ok" or grown or any(there[key] != made_with[key] for key in same):
        return False
    if flaw := find_flaw(paths.artifacts, meta["outputs"], "StepD"):
        log.warning("%s. Making it again from the finished relations.", flaw.what)
        return False
    return True


def trials_there(paths: RunPaths) -> Snapshot | None:
    """The trials that a run keeps; None where it has none yet, or their file is not the one that StepD wrote.

    Raises:
        ArtifactError: StepD has not finished, and the file cannot be read.
    """
    if not paths.snapshot.exists():
        return None
    meta = read_meta(paths.stepd_meta) if paths.stepd_meta.exists() else {}
    if SNAPSHOT in (outputs := meta.get("outputs", {})):
        if flaw := find_flaw(paths.artifacts, {SNAPSHOT: outputs[SNAPSHOT]}, "StepD"):
            log.warning("%s. Its trials are drawn again.", flaw.what)
            return None
        return read_snapshot(paths.snapshot)
    try:
        return read_snapshot(paths.snapshot)
    except ArtifactError as error:
        raise ArtifactError(f"{error} Remove the file, and StepD draws the trials again.") from None


def content_of(path: Path) -> bytes | None:
    """What a file holds; None where there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _made_with_before(meta: dict[str, Any]) -> dict[str, Any]:
    """`stepd_made_with` of a run from before relations had digests of their own."""
    return {
        "identity": identity(meta["config"]),
        "source": meta["sweep_identity"]["data.sha256"],
        "qids": meta["config"]["data"]["qids"],
        "relations": None,
        "stats": {f"stats.{key}": value for key, value in meta["config"]["stats"].items()},
    }


def _replayed_digest(config: Config) -> str:
    path = Path(str(config.data.fixed_trials_path))
    if not path.is_file():
        raise ArtifactError(f"data.fixed_trials_path={path} does not exist.")
    return sha256_of(path)
