"""Migrations of records: functions that turn a record of one schema version into a record of the next version."""

from collections.abc import Callable, Mapping
from typing import Literal

from fv.errors import ArtifactError
from fv.files import JsonObject

SCHEMA: Literal[2] = 2
"""Schema version of the records that are written now."""
Migration = Callable[[JsonObject], JsonObject]
MIGRATIONS: Mapping[int, Migration] = {}
"""{schema version: its migration, to the next version}. Version 1 was never released."""


def migrated(record: JsonObject, migrations: Mapping[int, Migration] = MIGRATIONS, schema: int = SCHEMA) -> JsonObject:
    """Migrate a record to the present schema version, one version at a time.

    Args:
        record: the record as it was written.
        migrations: {schema version: its migration, to the next version}.
        schema: the present version.

    Raises:
        ArtifactError: the record has a newer version, or one that was never released.
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
