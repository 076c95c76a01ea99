"""Relations and trials: rows, importers, checks, templates, sampling, corruption, snapshots, prompts.

Here are the names that need neither torch nor SciPy; sampling and encoding are imported from their modules.
"""

from fv.data.relations import Pair, Relation, RelationFile, normalise, read_relations
from fv.data.snapshot import Snapshot, Trial, read_snapshot, write_snapshot

__all__ = [
    "Pair",
    "Relation",
    "RelationFile",
    "Snapshot",
    "Trial",
    "normalise",
    "read_relations",
    "read_snapshot",
    "write_snapshot",
]
