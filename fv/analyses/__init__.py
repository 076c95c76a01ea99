"""Analyses: what is made of a run's results, one a file, each into a folder of its own.

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.analyses"]
    decode = "my_package.decode:Decode"

Its settings then stand under its name in the settings of the analyses, and its tables among those of the run. What all
analyses share is in `fv.analyses.running`.
"""

import functools
from collections.abc import Mapping
from typing import Any

from fv.analyses.running.analysis import Analysis
from fv.config.group import with_values
from fv.registry import plugged_in, refuse_unknown

__all__ = ["Analysis", "analyses_of", "known_analyses"]
GROUP = "function_vectors.analyses"
"""The entry points of installed packages."""


@functools.cache
def known_analyses() -> dict[str, type[Analysis]]:
    """All analyses: {name: class}, by name.

    Raises:
        PluginError: two go by one name.
    """
    return plugged_in(Analysis, __name__, GROUP)


def analyses_of(given: Mapping[str, Any]) -> dict[str, Analysis]:
    """The analyses that are named, sorted by name, with the settings given.

    Args:
        given: {name: analysis, or its settings as plain values}.

    Raises:
        ConfigError: there is no analysis or no setting of a name, or a value is not possible.
    """
    classes = known_analyses()
    for name in given:
        refuse_unknown(name, classes, "analysis")
    return {name: with_values(name, classes[name], given[name]) for name in sorted(given)}
