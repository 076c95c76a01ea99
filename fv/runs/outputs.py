"""Outputs of a step, identified by their SHA-256: mixed or changed files are refused (spec section 4)."""

import logging
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fv.errors import ArtifactError
from fv.files import JsonObject, read_json, sha256_of, write_csv, write_json, write_jsonl, write_torch, write_whole

log = logging.getLogger(__name__)


class Outputs:
    """Writes a step's files into a folder, and remembers their names for the step's record, which is written last.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, None] = {}  # an ordered set

    def add(self, path: Path) -> Path:
        """Remember a file in the folder that the caller writes, and return its path."""
        self._names[path.relative_to(self.folder).as_posix()] = None
        log.debug("Writing %s", path)
        return path

    def json(self, name: str, value: Any) -> None:
        """Write a JSON file."""
        write_json(self.add(self.folder / name), value)

    def jsonl(self, name: str, rows: Iterable[JsonObject]) -> None:
        """Write one JSON value per line."""
        write_jsonl(self.add(self.folder / name), rows)

    def csv(self, name: str, table: Any) -> None:
        """Write a pandas table."""
        write_csv(self.add(self.folder / name), table)

    def torch(self, name: str, value: Any) -> None:
        """Write tensors and plain values."""
        write_torch(self.add(self.folder / name), value)

    def copy(self, name: str, of: str) -> None:
        """Write a copy of a written file under a second name."""
        source = self.folder / of
        write_whole(self.add(self.folder / name), lambda temporary: shutil.copyfile(source, temporary))

    def hashes(self) -> dict[str, str]:
        """Compute {relative name: SHA-256} of all files so far, in the order of their first writing."""
        return {name: sha256_of(self.folder / name) for name in self._names}


class Flaw(NamedTuple):
    """A flaw of a file: a sentence without its full stop, and the remedy."""

    what: str
    remedy: str


def find_flaw(folder: Path, hashes: Mapping[str, str], made_by: str) -> Flaw | None:
    """Find the first file that is missing or whose SHA-256 differs; None if all are unchanged."""
    for name, recorded in hashes.items():
        path = folder / name
        if not path.exists():
            return Flaw(f"{path} is missing, though {made_by} wrote it", f"Run {made_by} again with overwrite=true.")
        found = sha256_of(path)
        if found != recorded:
            return Flaw(
                f"{path} is not the file {made_by} wrote: recorded SHA-256 {recorded}, found {found}",
                f"Artifacts of two runs are mixed, or the file was changed; run {made_by} again with overwrite=true.",
            )
    return None


def read_verified(folder: Path, name: str, hashes: Mapping[str, str], made_by: str) -> Any:
    """Read a JSON file of a step's outputs, verified.

    Raises:
        ArtifactError: the step did not write the file, or it is missing or was changed.
    """
    if name not in hashes:
        raise ArtifactError(f"{folder} has no {name} that {made_by} wrote. Run {made_by} again with overwrite=true.")
    verify_outputs(folder, {name: hashes[name]}, made_by)
    return read_json(folder / name)


def verify_outputs(folder: Path, hashes: Mapping[str, str], made_by: str) -> None:
    """Refuse files that a record does not name with this SHA-256.

    Raises:
        ArtifactError: a file is missing, or its SHA-256 differs; the message gives both hashes.
    """
    if flaw := find_flaw(folder, hashes, made_by):
        raise ArtifactError(f"{flaw.what}. {flaw.remedy}")
