"""Numbers and heads as tables show them."""

from collections.abc import Iterable
from typing import Any


def interval(mean: float, low: float | None, high: float | None, digits: int = 1) -> str:
    """A signed mean with its interval, if it has one."""
    shown = f"{mean:+.{digits}f}"
    return shown if low is None or high is None else f"{shown} [{low:.{digits}f}, {high:.{digits}f}]"


def heads(ranked: Iterable[dict[str, Any]]) -> str:
    """Heads as layer.head."""
    return " ".join(f"{head['layer']}.{head['head']}" for head in ranked) or "–"
