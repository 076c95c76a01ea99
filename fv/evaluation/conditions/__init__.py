"""Conditions that are run on test trials beside the vector, one provider per file (docs/methods.md).

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.conditions"]
    doubled = "my_package.doubled:Doubled"

Its settings then appear under its name in the settings of the evaluation, and its conditions in every table.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from fv.config.group import with_values
from fv.evaluation.provider import ConditionProvider
from fv.registry import plugged_in, refuse_unknown

__all__ = ["RENAMED", "ConditionProvider", "condition_providers", "is_ours", "only", "providers_of"]
GROUP = "function_vectors.conditions"
"""Group of entry points by which installed packages add conditions."""
RENAMED = {"random_vectors": "random_vector"}
"""{other name of a condition in `controls`: its name}."""


@functools.cache
def condition_providers() -> dict[str, type[ConditionProvider]]:
    """All providers: {name: class}, in the order of their conditions.

    Raises:
        PluginError: two providers have the same name.
    """
    found = plugged_in(ConditionProvider, __name__, GROUP)
    return dict(sorted(found.items(), key=lambda named: named[1].place))


def is_ours(provider: type[ConditionProvider]) -> bool:
    """Tell whether a provider belongs to this package, not to another installed package."""
    return provider.__module__.startswith(f"{__name__}.")


def providers_of(given: Mapping[str, Any]) -> dict[str, ConditionProvider]:
    """Build all providers, {name: provider}, with the given settings, or else with their defaults.

    Args:
        given: {name: provider, or its settings as plain values}.

    Raises:
        ConfigError: the name of a provider or of a setting is unknown, or a value is out of range.
    """
    classes = condition_providers()
    for name in given:
        refuse_unknown(name, classes, "condition")
    return {name: with_values(name, of, given.get(name, {})) for name, of in classes.items()}


def only(names: Iterable[str]) -> dict[str, ConditionProvider]:
    """Build all providers with default settings, and enable only those named, by their names or those in `RENAMED`.

    Raises:
        ConfigError: the name of a provider is unknown.
    """
    enabled = {RENAMED.get(name, name) for name in names}
    return providers_of({name: {"enabled": name in enabled} for name in {*condition_providers(), *enabled}})
