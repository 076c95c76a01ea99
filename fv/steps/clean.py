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
    """Delete a run's units, including units that older versions wrote elsewhere in the run.

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
        older = [paths.artifacts / "stepD_units", *paths.artifacts.glob("step6/**/units")]
        folders = [folder for folder in (paths.units, *older) if folder.is_dir()]
        files = [path for folder in folders for path in folder.iterdir()]
        size = sum(path.stat().st_size for path in files) / 1e6
        for folder in folders:
            shutil.rmtree(folder)
        shutil.rmtree(paths.stages, ignore_errors=True)  # these records say that the units exist
    log.info("%d units (%.1f MB) deleted in %s; its results stay.", len(files), size, paths.root)
    return paths.root
