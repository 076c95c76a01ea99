"""Records of runs that a test changes, digest and all, as damage does not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fv.config import Config
from fv.files import digest_of, read_json, write_json
from fv.models.spec import SPECS
from fv.runs.records import DIGEST, MadeWith, StepDRecord, write_record


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a record's values in place, and write it with the digest of what it says now."""
    values = read_json(path)
    del values[DIGEST]
    change(values)
    write_json(path, {**values, DIGEST: digest_of(values)})


def write_begun(path: Path, config: Config) -> None:
    """Write the record of a StepD of a configuration that has only begun."""
    record = StepDRecord(
        seed=config.seed,
        canonical=config.canonical,
        config=config,
        made_with=MadeWith(source="", relations=None),
        model={},
        selfcheck={},
        spec=SPECS[0],
        compute={},
        versions={},
        started="",
    )
    write_record(path, record)
