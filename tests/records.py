"""Records of runs that a test changes, digest and all, as damage does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fv.files import digest_of, read_json, write_json
from fv.runs.records import DIGEST


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record's values in place, and write it with the digest of what it says now."""
    values = read_json(path)
    del values[DIGEST]
    change(values)
    write_json(path, {**values, DIGEST: digest_of(values)})
