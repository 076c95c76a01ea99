"""Relations and trials: rows, importers, checks, templates, sampling, corruption, snapshots, prompts.

The names here need neither torch nor SciPy; sampling and encoding are imported from their modules.
"""

from fv.data.relations import Pair, Relation, Relations, normalise, read_configured
from fv.data.snapshot import Snapshot, read_snapshot, write_snapshot
from fv.data.trial import Trial

__all__ = [
    "Pair",
    "Relation",
    "Relations",
    "Snapshot",
    "Trial",
    "normalise",
    "read_configured",
    "read_snapshot",
    "write_snapshot",
]
