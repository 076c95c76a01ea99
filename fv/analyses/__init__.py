"""Analyses of a run's results, one per file; each writes into its own folder.

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.analyses"]
    decode = "my_package.decode:Decode"

Its settings then appear under its name in the settings of the analyses, and its tables among those of the run. The
code that all analyses share is in `fv.analyses.running`.
"""

import functools
from collections.abc import Mapping
from typing import Any

from fv.analyses.running.analysis import Analysis
from fv.config.group import with_values
from fv.registry import plugged_in, refuse_unknown

__all__ = ["Analysis", "analyses_of", "known_analyses"]
GROUP = "function_vectors.analyses"
"""Group of entry points by which installed packages add analyses."""


@functools.cache
def known_analyses() -> dict[str, type[Analysis]]:
    """All analyses: {name: class}, sorted by name.

    Raises:
        PluginError: two analyses have the same name.
    """
    return plugged_in(Analysis, __name__, GROUP)


def analyses_of(given: Mapping[str, Any]) -> dict[str, Analysis]:
    """Build the named analyses with the given settings, sorted by name.

    Args:
        given: {name: analysis, or its settings as plain values}.

    Raises:
        ConfigError: the name of an analysis or of a setting is unknown, or a value is out of range.
    """
    classes = known_analyses()
    for name in given:
        refuse_unknown(name, classes, "analysis")
    return {name: with_values(name, classes[name], given[name]) for name in sorted(given)}
