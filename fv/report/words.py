"""Numbers, names and places as the page's sentences say them."""

import math
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any


def number(value: float, sign: bool = False) -> str:
    """A number with two digits behind the point, whole ones and large ones without."""
    if isinstance(value, int) or (float(value).is_integer() and not sign) or not math.isfinite(value):
        text = f"{value:+g}" if sign else f"{value:g}"
    else:
        text = f"{value:+.2f}" if sign else f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.2g}"
    return text.replace("-", "−")


def interval(mean: float, low: float | None = None, high: float | None = None) -> str:
    """`+4.36 [+3.30, +5.20]`, or the mean alone where there is no interval."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return number(mean, sign=True)
    return f"{number(mean, sign=True)} [{number(low, sign=True)}, {number(high, sign=True)}]"


def called(name: str) -> str:
    """A condition or table as a reader says it: `few_shot` is few-shot."""
    return "vector" if name == "fv" else name.replace("_shot", "-shot").replace("_", " ")


def without_folders(value: Any) -> Any:
    """A setting without the place of files on the machine that ran it: of an absolute path, the last part."""
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if path.is_absolute() or value.startswith("~"):
                return f"…/{path.name}"
    return value
