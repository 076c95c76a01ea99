"""What plugs in: the class of each module of a package, and those that installed packages add by entry points."""

import difflib
import importlib
import logging
import pkgutil
from collections.abc import Collection
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from fv.errors import ConfigError, PluginError

T = TypeVar("T")
log = logging.getLogger(__name__)


def plugged_in(base: type[T], package: str, group: str) -> dict[str, type[T]]:
    """The classes of one kind, the package's own and those of other packages: {name: class}, by name.

    A class of the package goes by the name of its module. An installed package adds one by an entry point, whose name
    it goes by:

        [project.entry-points."<group>"]
        my_name = "my_package.my_module:MyClass"

    One that cannot be taken is left out, and a warning names it.

    Args:
        base: what each class is derived from.
        package: the package's dotted name; each of its modules has one such class. What modules share is in packages
            inside it, which are passed over.
        group: the group of the entry points.

    Raises:
        PluginError: two classes go by one name.
    """
    found = {name: _class_of(base, f"{package}.{name}") for name in _modules_of(package)}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value)):
        added = _loaded(base, entry)
        if added is None:
            continue
        if found.setdefault(entry.name, added) is not added:
            there = found[entry.name]
            raise PluginError(
                f"{entry.name} of {group} is both {there.__module__}:{there.__qualname__} and {entry.value}. "
                "Give one of them another name, or uninstall its package."
            )
    return dict(sorted(found.items()))


def refuse_unknown(name: str, names: Collection[str], kind: str, shown: Collection[str] | None = None) -> None:
    """Refuse a name that is none of those there are.

    Args:
        name: the name.
        names: those there are.
        kind: what they are names of.
        shown: those that are told where none is near; all of them unless given.

    Raises:
        ConfigError: says which are near it, or which there are.
    """
    if name not in names:
        near = difflib.get_close_matches(name, names)
        every = names if shown is None else shown
        told = f"Near it: {', '.join(near)}" if near else f"There are {', '.join(every) or 'none'}"
        raise ConfigError(f"There is no {kind} called {name!r}. {told}.")


def _modules_of(package: str) -> list[str]:
    found = pkgutil.iter_modules(importlib.import_module(package).__path__)
    return sorted(module.name for module in found if not module.ispkg)


def _class_of(base: type[T], module: str) -> type[T]:
    """The one class of a module of our own."""
    names = vars(importlib.import_module(module)).values()
    (found,) = (own for own in names if isinstance(own, type) and issubclass(own, base) and own.__module__ == module)
    return found


def _loaded(base: type[T], entry: EntryPoint) -> type[T] | None:
    """The class of an entry point; None, and a warning, where there is none."""
    try:
        found = entry.load()
        if not (isinstance(found, type) and issubclass(found, base)):
            raise TypeError(f"it is not a class derived from {base.__module__}.{base.__name__}")
        if not entry.name.isidentifier():
            raise ValueError("its name must be letters, digits and _, for settings go by it")
    except (Exception, SystemExit) as error:  # somebody else's package may fail in any way, and must break nothing
        told = f"{type(error).__name__}: {error}"
        log.warning("The plug-in %s = %s (%s) is left out. %s", entry.name, entry.value, entry.group, told)
        return None
    return found
