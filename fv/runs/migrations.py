"""Migrations of records: what turns the record of a released version into one of the version after it."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from fv.errors import ArtifactError

SCHEMA: Literal[2] = 2
"""The schema version of the records that are written now."""
Migration = Callable[[dict[str, Any]], dict[str, Any]]
MIGRATIONS: Mapping[int, Migration] = {}
"""{schema version: turns a record of it into one of the next version}. Version 1 was never released."""


def migrated(
    record: dict[str, Any], migrations: Mapping[int, Migration] = MIGRATIONS, schema: int = SCHEMA
) -> dict[str, Any]:
    """Bring a record to the schema version of today, one version at a time.

    Args:
        record: the record as it was written.
        migrations: {schema version: turns a record of it into one of the next version}.
        schema: the version of today.

    Raises:
        ArtifactError: the record is of a newer version, or of one that was never released.
    """
    version = record.get("schema_version")
    while version != schema:
        if not isinstance(version, int) or version not in migrations:
            newer = isinstance(version, int) and version > schema
            remedy = "Update this package." if newer else "Start another run_id."
            raise ArtifactError(f"It has schema version {version!r}, and this version reads {schema}. {remedy}")
        version += 1
        record = {**migrations[version - 1](record), "schema_version": version}
    return record
