"""Groups of settings: each checks its values, and its messages name settings as their user knows them.

Settings made in Python have the names of their fields, and are checked when they are made. Settings of a run have
keys, which they get after they are made; `named_later` defers their check until then.
"""

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from fv.config.ranges import check_ranges
from fv.errors import ConfigError, one_of
from fv.registry import refuse_unknown

Settings = dict[str, Any]
"""Plain values of settings: {key: value}, with groups of settings as such dictionaries or as dotted keys."""
SettingsByName = dict[str, Any]
"""{name of a condition or analysis: its settings, plain values or an object of its class}."""
_named_later = ContextVar("_named_later", default=False)


class Group:
    """A group of settings, checked when it is made."""

    group = ""
    """Key of the group in a `Config`, such as `data` or `data.columns`; empty for settings made in Python."""

    def __post_init__(self) -> None:
        if not _named_later.get():
            self.validate()

    def validate(self) -> None:
        """Refuse a number outside its field's range, and a text that names no member of its field's enum.

        A class with further checks extends this method, and names settings by `called`. It may run several times.

        Raises:
            ConfigError: a value is not possible; the message names the setting and the possible values.
        """
        schema: type = type(self)
        for name, kind in _enums_of(schema).items():
            setattr(self, name, one_of(self.called(name), getattr(self, name), kind))
        check_ranges(self, self.called)

    def called(self, name: str) -> str:
        """Name of a setting in messages: `k` for a `ScoreConfig` made in Python, `score.k` for one of a run."""
        return f"{self.group}.{name}" if self.group else name

    def become(self, group: str) -> None:
        """Name these settings by the key `group`, name the groups inside them by their keys, and check all of them.

        Raises:
            ConfigError: a value is not possible.
        """
        self.group = group
        for key, inner in groups_in(self):
            inner.become(self.called(key))
        self.validate()


G = TypeVar("G", bound=Group)


@contextmanager
def named_later() -> Iterator[None]:
    """Make groups without a check inside this context: `Group.become` gives them their keys and checks them."""
    before = _named_later.set(True)
    try:
        yield
    finally:
        _named_later.reset(before)


def groups_in(settings: Any) -> Iterator[tuple[str, Group]]:
    """Iterate over the groups in the fields of a dataclass, each with its key, such as `conditions.refits`."""
    for own in dataclasses.fields(settings):
        value = getattr(settings, own.name)
        if isinstance(value, Group):
            yield own.name, value
        elif isinstance(value, Mapping):
            yield from ((f"{own.name}.{key}", inner) for key, inner in value.items() if isinstance(inner, Group))


def with_values(name: str, of: type[G], given: Any) -> G:
    """Build a group of settings with the given values, and with defaults for the others.

    Args:
        name: its name in messages.
        of: its class.
        given: an instance of the class, which is returned as it is, or plain values: {name of a field: value}.

    Raises:
        ConfigError: the name of a setting is unknown, or a value is not possible.
    """
    if isinstance(given, of):
        return given
    if not isinstance(given, Mapping):
        raise ConfigError(f"{name}={given!r} must be settings of {name}, such as {name}.<setting>=<value>.")
    for key in given:
        refuse_unknown(key, [own.name for own in dataclasses.fields(of)], f"setting of {name}")  # type: ignore[arg-type]
    kinds = typing.get_type_hints(of)  # without their ranges, which the group checks in its own words
    with named_later():
        made = of(**{key: _typed(f"{name}.{key}", value, kinds[key]) for key, value in given.items()})
    made.become(name)
    return made


def plain(settings: Any) -> Settings:
    """Convert a dataclass of settings, and the dataclasses inside it, to plain JSON values."""
    return dataclasses.asdict(settings, dict_factory=_plain)


def _plain(items: list[tuple[str, Any]]) -> Settings:
    return {key: value.value if isinstance(value, Enum) else value for key, value in items}


def _typed(key: str, value: Any, kind: Any) -> Any:
    """Convert a plain value to a type.

    Raises:
        ConfigError: this is not possible.
    """
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([key, *map(str, first["loc"])])
        raise ConfigError(f"{where}={first['input']!r} is not possible: {first['msg']}.") from None


@functools.cache
def _enums_of(schema: type) -> dict[str, type[Enum]]:
    """{setting: its enum} of the settings that have an enum."""
    kinds = typing.get_type_hints(schema)
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Enum)}
