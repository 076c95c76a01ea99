"""Makers of vectors, one per file (docs/methods.md, "Makers").

To add one, write a file here, or in a package of your own that names the class in its entry points:

    [project.entry-points."function_vectors.makers"]
    doubled = "my_package.doubled:Doubled"

It is then known by its name wherever makers are named.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

from fv.config.group import with_values
from fv.config.injection import KINDS, InjectionConfig
from fv.errors import ConfigError
from fv.registry import plugged_in, refuse_unknown
from fv.vectors.maker import Maker

__all__ = ["REFERENCE", "Maker", "injected_makers", "known_without_settings", "maker_classes", "makers_of"]
GROUP = "function_vectors.makers"
"""Group of entry points by which installed packages add makers."""
REFERENCE = "function_vector"
"""The maker that all others are compared with."""


@functools.cache
def maker_classes() -> dict[str, type[Maker]]:
    """All makers: {name: class}, sorted by name.

    Raises:
        PluginError: two makers have the same name.
    """
    return plugged_in(Maker, __name__, GROUP)


def known_without_settings(trained: bool = True) -> list[str]:
    """Names of the makers that need no setting; those that are trained only if `trained`."""
    return [name for name, maker in maker_classes().items() if not maker.required and (trained or not maker.trains)]


def makers_of(
    names: Iterable[str], settings: Mapping[str, Mapping[str, Any]] | None = None, prefix: str = ""
) -> dict[str, Maker]:
    """Build the named makers with the given settings, or else with their defaults: {name: maker}.

    Args:
        names: the makers.
        settings: {maker: {setting: value}}.
        prefix: the beginning of the settings' names in messages.

    Raises:
        ConfigError: the name of a maker or of a setting is unknown, settings are given for a maker that is not named,
            or a value is not possible or missing.
    """
    classes, given = maker_classes(), dict(settings or {})
    wanted = [*dict.fromkeys(names)]
    for name in wanted:
        refuse_unknown(name, classes, "maker")
    for name in given:
        refuse_unknown(name, wanted, "maker among those named")
    made = {name: with_values(f"{prefix}{name}", classes[name], given.get(name, {})) for name in wanted}
    for name, maker in made.items():
        if lacking := [own for own in maker.required if getattr(maker, own) is None]:
            raise ConfigError(f"The maker {name} needs {', '.join(map(maker.called, lacking))}.")
    return made


def injected_makers(injection: InjectionConfig) -> dict[str, Maker]:
    """Build the makers that settings of an injection name, with their settings: {name: maker}.

    Raises:
        ConfigError: they name neither a kind of vectors nor a maker, or as for `makers_of`.
    """
    names, fv = [choice.name for choice in injection.choices if choice.is_made], injection.called("fv")
    for name in names:
        refuse_unknown(name, [*KINDS, *maker_classes()], f"value of {fv}")
    return makers_of(names, injection.makers, f"{injection.called('makers')}.")
