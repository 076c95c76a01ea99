"""Checks of single settings; each message names the key and the allowed values."""

import math
import numbers
import operator
import re
from pathlib import Path
from typing import Any

from fv.errors import ConfigError

AUTO = "auto"
"""Value of a setting whose number this machine decides."""
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]*")
LONGEST_NAME = 120
"""Maximal number of characters in a folder's name."""


def check_name(key: str, value: str) -> None:
    """Refuse a value that could not be a folder's name."""
    if not SAFE_NAME.fullmatch(value) or len(value) > LONGEST_NAME:
        raise ConfigError(
            f"{key}={value!r} must name a folder: letters, digits and . _ = + - only, starting with a letter or digit, "
            f"{LONGEST_NAME} characters at most."
        )


def safe_name(name: str, otherwise: str) -> str:
    """A name, if it can be part of a run's name; else `otherwise`."""
    return name if SAFE_NAME.fullmatch(name) and len(name) <= 60 else otherwise


def name_after(path: str | None, otherwise: str) -> str:
    """A file's or folder's name without its suffix, if it can be part of a run's name; else `otherwise`."""
    return safe_name(Path(path or "").stem, otherwise)


def check_at_least(key: str, value: int, least: int) -> None:
    """Refuse a number below `least`."""
    if value < least:
        raise ConfigError(f"{key}={value} must be {least} or more.")


def check_max_rows(key: str, value: Any) -> None:
    """Refuse a value that is not a possible number of token rows in a pass."""
    if value != AUTO and (isinstance(value, bool) or not isinstance(value, int) or value < 2):
        raise ConfigError(f"{key}={value!r} must be a whole number of 2 or more, or auto: what fits the free memory.")


def check_at_most(key: str, value: int, other_key: str, other: int) -> None:
    """Refuse a number above another setting's number."""
    if value > other:
        raise ConfigError(f"{key}={value} is more than {other_key}={other}.")


def check_qids(key: str, qids: list[str] | None) -> list[str] | None:
    """Check and sort relations, so that their order in the setting changes nothing."""
    if qids is None:
        return None
    twice = sorted({q for q in qids if qids.count(q) > 1})
    if not qids or twice:
        problem = f"names {', '.join(twice)} twice" if twice else "is empty; name a relation, or use null for all"
        raise ConfigError(f"{key} {problem}.")
    return sorted(qids)


def check_index(key: str, value: Any) -> int:
    """Convert a layer or head to int: any library's whole number from 0."""
    try:
        index = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        index = -1
    if index < 0:
        raise ConfigError(f"{key}={value!r} must be a whole number, counted from 0.")
    return index


def check_strength(key: str, value: Any) -> None:
    """Refuse a value that is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ConfigError(f"{key}={value!r} must be a finite number, such as 2.0.")


def parse_indices(key: str, value: Any) -> str | list[int]:
    """Convert `all`, one index or a list of indices to `all` or a sorted list."""
    if value == "all":
        return "all"
    items = list(value) if isinstance(value, list | tuple | range) else [value]
    if not items or any(isinstance(i, bool) or not isinstance(i, int) or i < 0 for i in items):
        raise ConfigError(f"{key}={value!r} must be all, a number from 0, or a list of such numbers, like [8,12,16].")
    if len(set(items)) != len(items):
        raise ConfigError(f"{key}={value!r} names a number twice.")
    return sorted(items)


def parse_ks(key: str, value: Any) -> list[int] | None:
    """Convert one number from 1, or a list of them, to a sorted list; null stays null."""
    if value is None:
        return None
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items or any(isinstance(i, bool) or not isinstance(i, int) or i < 1 for i in items):
        raise ConfigError(f"{key}={value!r} must be a number from 1, or a list of such numbers, like [1,2,5,10,20].")
    if len(set(items)) != len(items):
        raise ConfigError(f"{key}={value!r} names a number twice.")
    return sorted(items)


def parse_alphas(key: str, value: Any) -> list[float]:
    """Convert one finite number or a list of them to a sorted list."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    try:
        alphas = [float(i) for i in items if isinstance(i, int | float) and not isinstance(i, bool)]
    except OverflowError:
        alphas = []
    if not items or len(alphas) != len(items) or not all(map(math.isfinite, alphas)):
        raise ConfigError(f"{key}={value!r} must be a finite number or a list of them, like [0.5,1.0,2.0].")
    if len(set(alphas)) != len(alphas):
        raise ConfigError(f"{key}={value!r} names a number twice.")
    return sorted(alphas)
