"""Explanations of settings, in one sentence each, read from the docstrings under the fields of their classes."""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, NamedTuple

from fv.config import Config
from fv.config.overrides import shown_value
from fv.config.ranges import ranges_of


class Explanation(NamedTuple):
    """A setting's dotted key, default, meaning in one sentence, choices and range, if any."""

    key: str
    default: str
    meaning: str
    choices: tuple[str, ...] = ()
    range: str = ""


class Setting(NamedTuple):
    """A setting's dotted key, class and field."""

    key: str
    schema: type
    field: dataclasses.Field[Any]


def settings_of(
    schema: type = Config, prefix: str = "", plugged_in: Mapping[str, Mapping[str, type]] | None = None
) -> Iterator[Setting]:
    """Iterate over the settings of a class and of the classes inside it, in their order.

    Args:
        schema: the class.
        prefix: the beginning of its keys.
        plugged_in: {key of a setting that holds settings of plug-ins: {name of a plug-in: its class}}.
    """
    plug_ins = plugged_in or {}
    for field in dataclasses.fields(schema):
        kind: Any = field.type
        if (key := f"{prefix}{field.name}") in plug_ins:
            for name, own in plug_ins[key].items():
                yield from settings_of(own, f"{key}.{name}.")
        elif dataclasses.is_dataclass(kind):
            yield from settings_of(kind, f"{key}.", plug_ins)  # type: ignore[arg-type]  # a class, not an instance
        else:
            yield Setting(key, schema, field)


def explanations(
    schema: type = Config, prefix: str = "", plugged_in: Mapping[str, Mapping[str, type]] | None = None
) -> list[Explanation]:
    """Explain every setting of `settings_of`, which takes the same arguments."""
    found: list[Explanation] = []
    for key, own, field in settings_of(schema, prefix, plugged_in):
        kind: Any = field.type
        is_choice = isinstance(kind, type) and issubclass(kind, Enum)
        meaning = _all_texts(own).get(field.name) or (inspect.getdoc(kind) if is_choice else None) or ""
        choices = tuple(str(member.value) for member in kind) if is_choice else ()
        default = field.default
        if default is dataclasses.MISSING:
            default = field.default_factory()  # type: ignore[operator]  # a field has one of the two
        within = ranges_of(own).get(field.name)
        words = within.words if within else ""
        found.append(Explanation(key, shown_value(key, default), first_sentence(meaning), choices, words))
    return found


def first_sentence(text: str) -> str:
    """Text up to the first full stop before a space, on one line."""
    return re.split(r"(?<=\.)\s", " ".join(text.split()), maxsplit=1)[0]


@functools.cache
def _all_texts(schema: type) -> dict[str, str]:
    """{field: the text under it} of a class and its base classes."""
    return {name: text for own in reversed(schema.__mro__[:-1]) for name, text in _own_texts(own).items()}


def _own_texts(schema: type) -> dict[str, str]:
    """{field: the text under it} of a class alone, read from its source, because Python does not keep these texts."""
    (own,) = ast.parse(textwrap.dedent(inspect.getsource(schema))).body
    assert isinstance(own, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(own.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
