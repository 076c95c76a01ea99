"""Deletion of a run's units, which can be computed again."""

import logging
import shutil
from pathlib import Path

from fv.config import Config
from fv.errors import ArtifactError
from fv.runs.locks import run_lock
from fv.runs.paths import RunPaths

log = logging.getLogger(__name__)


def run_clean(config: Config) -> Path:
    """Delete a run's units.

    Results stay. If the run grows afterwards, all units are computed again.

    Returns:
        the run's folder.

    Raises:
        ArtifactError: there is no such run.
    """
    paths = RunPaths.of(config)
    if not paths.artifacts.is_dir():
        raise ArtifactError(f"There is no run in {paths.root}. Name one: run_id=<run_id>.")
    with run_lock(paths.root):
        files = [*paths.units.glob("*")]
        size = sum(path.stat().st_size for path in files) / 1e6
        shutil.rmtree(paths.units, ignore_errors=True)
        shutil.rmtree(paths.stages, ignore_errors=True)  # these records say that the units exist
    log.info("%d units (%.1f MB) deleted in %s; its results stay.", len(files), size, paths.root)
    return paths.root
