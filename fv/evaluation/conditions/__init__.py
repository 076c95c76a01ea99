"""Conditions: what is run on test trials beside the vector, one provider a file (docs/methods.md).

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.conditions"]
    doubled = "my_package.doubled:Doubled"

Its settings then stand under its name in the settings of the evaluation, and its conditions in every table.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from fv.config.group import with_values
from fv.evaluation.provider import ConditionProvider
from fv.registry import plugged_in, refuse_unknown

__all__ = ["RENAMED", "ConditionProvider", "condition_providers", "is_ours", "only", "providers_of"]
GROUP = "function_vectors.conditions"
"""The entry points of installed packages."""
RENAMED = {"random_vectors": "random_vector"}
"""{name that a condition went by: its name}: the old one is read in records, and where conditions are named in code."""


@functools.cache
def condition_providers() -> dict[str, type[ConditionProvider]]:
    """All providers: {name: class}, in the order of their conditions.

    Raises:
        PluginError: two go by one name.
    """
    found = plugged_in(ConditionProvider, __name__, GROUP)
    return dict(sorted(found.items(), key=lambda named: named[1].place))


def is_ours(provider: type[ConditionProvider]) -> bool:
    """Whether a provider is of this package, and not of one that was installed beside it."""
    return provider.__module__.startswith(f"{__name__}.")


def providers_of(given: Mapping[str, Any]) -> dict[str, ConditionProvider]:
    """All providers, {name: provider}, with the settings given, and with their defaults where none are.

    Args:
        given: {name: provider, or its settings as plain values}.

    Raises:
        ConfigError: there is no provider or no setting of a name, or a value is not possible.
    """
    classes = condition_providers()
    for name in given:
        refuse_unknown(name, classes, "condition")
    return {name: with_values(name, of, given.get(name, {})) for name, of in classes.items()}


def only(names: Iterable[str]) -> dict[str, ConditionProvider]:
    """All providers with their default settings, of which those named, by today's name or an older one, are enabled.

    Raises:
        ConfigError: there is no provider of a name.
    """
    enabled = {RENAMED.get(name, name) for name in names}
    return providers_of({name: {"enabled": name in enabled} for name in {*condition_providers(), *enabled}})
