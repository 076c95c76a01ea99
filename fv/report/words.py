"""Words of the page and the terminal: numbers, intervals, names and paths as text."""

import math
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from fv.tables import TableRow


def number(value: float, sign: bool = False) -> str:
    """Text of a number with two decimal places; whole numbers have none."""
    if isinstance(value, int) or (float(value).is_integer() and not sign) or not math.isfinite(value):
        text = f"{value:+g}" if sign else f"{value:g}"
    else:
        text = f"{value:+.2f}" if sign else f"{value:.2f}" if abs(value) >= 0.01 else f"{value:.2g}"
    return text.replace("-", "−")


def page_interval(mean: float, low: float | None = None, high: float | None = None) -> str:
    """Text for the page, such as `+4.36 [+3.30, +5.20]`, or the mean alone if there is no interval."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return number(mean, sign=True)
    return f"{number(mean, sign=True)} [{number(low, sign=True)}, {number(high, sign=True)}]"


def terminal_interval(mean: float, low: float | None, high: float | None, digits: int = 1) -> str:
    """Text for the terminal, such as `+4.4 [3.3, 5.2]`, or the mean alone if there is no interval."""
    shown = f"{mean:+.{digits}f}"
    return shown if low is None or high is None else f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"


def head_names(ranked: Iterable[TableRow]) -> str:
    """Text of heads, each as layer.head."""
    return " ".join(f"{head['layer']}.{head['head']}" for head in ranked) or "–"


def called(name: str) -> str:
    """Name of a condition or table in words: `few_shot` becomes few-shot."""
    return "vector" if name == "fv" else name.replace("_shot", "-shot").replace("_", " ")


def without_folders(value: Any) -> Any:
    """Cut absolute paths in a setting to their last part, since folders differ between machines."""
    if isinstance(value, Mapping):
        return {key: without_folders(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_folders(each) for each in value]
    if isinstance(value, str):
        for path in (PurePosixPath(value), PureWindowsPath(value)):
            if path.is_absolute() or value.startswith("~"):
                return f"…/{path.name}"
    return value
