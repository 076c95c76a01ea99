"""Overrides: values of settings, as they are typed on a command line, and templates read from a command line.

In a typed template `\\n` is a line break, `\\t` a tab, `\\r` a carriage return, and `\\\\` a backslash, because no
other notation works in every shell. Templates given in Python have no such notation.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from enum import Enum
from typing import Any

from fv.config.data import TemplateConfig
from fv.config.group import named_later
from fv.errors import ConfigError

ESCAPES = {"\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
"""{character after a backslash in a typed template: the character that the two stand for}."""
TEMPLATE = "data.template"
_BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./@+-]*")
_READ_AS_ANOTHER = ("true", "false", "null", "nan", "inf")


def typed_template(template: TemplateConfig) -> TemplateConfig:
    """Convert a typed template to the template that it means.

    Raises:
        ConfigError: a backslash stands before a character that is not in `ESCAPES`, or a part lacks a placeholder.
    """
    texts = {field.name: getattr(template, field.name) for field in fields(TemplateConfig)}
    with named_later():
        meant = TemplateConfig(**{name: _unescaped(f"{TEMPLATE}.{name}", text) for name, text in texts.items()})
    meant.become(TEMPLATE)
    return meant


def shown_value(key: str, value: Any) -> str:
    """A setting's value as it is typed on a command line, quoted if it is not a plain word."""
    if isinstance(value, Enum):
        return shown_value(key, value.value)
    if isinstance(value, list):
        return f"[{','.join(shown_value(key, each) for each in value)}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{name}: {shown_value(f'{key}.{name}', each)}" for name, each in value.items()) + "}"
    if not isinstance(value, str):
        return json.dumps(value)
    if key.startswith(f"{TEMPLATE}."):
        value = "".join(_ESCAPED.get(character, character) for character in value)
    if _BARE.fullmatch(value) and value.lower() not in _READ_AS_ANOTHER:
        return value
    # A quotation mark is escaped, and so are the backslashes right before one; any other stands for itself.
    return '"' + re.sub(r'(\\*)("|\Z)', lambda m: m[1] * 2 + ('\\"' if m[2] else ""), value) + '"'


_ESCAPED = {character: f"\\{sign}" for sign, character in ESCAPES.items()}


def _unescaped(key: str, text: str) -> str:
    def meant(found: re.Match[str]) -> str:
        if found[1] not in ESCAPES:
            raise ConfigError(
                f"{key}={text!r}: {found[0]} is no escape. A template knows \\n (line break), \\t (tab), \\r (carriage "
                "return) and \\\\ (a backslash)."
            )
        return ESCAPES[found[1]]

    return re.sub(r"\\(.?)", meant, text, flags=re.DOTALL)
