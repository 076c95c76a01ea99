"""Unrelated texts, in which an injection should change nothing."""

from importlib.resources import files
from pathlib import Path

from fv.errors import ConfigError

N_TEXTS = 12
"""How many there are, unless another number is asked for."""


def read_unrelated(count: int, path: str | None = None, names: tuple[str, str] = ("count", "path")) -> list[str]:
    """The first unrelated texts of a file, one a line.

    Args:
        count: how many.
        path: the file, in UTF-8; None for the project's own.
        names: what messages call the two.

    Raises:
        ConfigError: the file cannot be read as UTF-8, or holds fewer texts.
    """
    where = Path(path) if path else files("fv") / "unrelated.txt"
    try:
        lines = [line.rstrip() for line in where.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{names[1]}={path} cannot be read as UTF-8 text: {error}.") from None
    if len(lines) < count:
        raise ConfigError(f"{names[0]}={count}, but {where} holds {len(lines)} texts.")
    return lines[:count]
