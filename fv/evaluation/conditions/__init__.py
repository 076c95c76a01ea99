"""Conditions: what is run on test trials beside the vector, one provider a file (docs/methods.md).

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.conditions"]
    doubled = "my_package.doubled:Doubled"

Its settings then stand under its name in the settings of the evaluation, and its conditions in every table.
"""

import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fv.errors import ConfigError
from fv.evaluation.provider import ConditionProvider
from fv.registry import plugged_in

__all__ = ["ConditionProvider", "condition_providers", "only", "providers_of"]
GROUP = "function_vectors.conditions"
"""The entry points of installed packages."""


@functools.cache
def condition_providers() -> dict[str, type[ConditionProvider]]:
    """All providers by name, in the order of their conditions.

    Raises:
        PluginError: two go by one name.
    """
    found = plugged_in(ConditionProvider, __name__, GROUP)
    return dict(sorted(found.items(), key=lambda named: (named[1].place, named[0])))


def providers_of(given: Mapping[str, Any]) -> dict[str, ConditionProvider]:
    """All providers, {name: provider}, with the settings given, and with their defaults where none are.

    Args:
        given: {name: provider, or its settings as plain values}.

    Raises:
        ConfigError: there is no provider or no setting of a name, or a value is not possible.
    """
    classes = condition_providers()
    for name in given:
        _known(name, classes, "condition")
    return {name: _provider(name, of, given.get(name, {})) for name, of in classes.items()}


def only(names: Iterable[str]) -> dict[str, ConditionProvider]:
    """All providers with their default settings, of which those named are enabled and no others.

    Raises:
        ConfigError: there is no provider of a name.
    """
    enabled = set(names)
    return providers_of({name: {"enabled": name in enabled} for name in {*condition_providers(), *enabled}})


def _provider(name: str, of: type[ConditionProvider], given: Any) -> ConditionProvider:
    if isinstance(given, of):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name}={given!r} must be settings of {name}, such as {name}.enabled=false.")
    for key in given:
        _known(key, [own.name for own in fields(of)], f"setting of {name}")
    try:
        return TypeAdapter(of).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *map(str, first["loc"])])
        raise ConfigError(f"{where}={first['input']!r} is not possible: {first['msg']}.") from None


def _known(name: str, names: Iterable[str], kind: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names)
        told = f"Near it: {', '.join(near)}" if near else f"There are {', '.join(names)}"
        raise ConfigError(f"There is no {kind} called {name!r}. {told}.")
