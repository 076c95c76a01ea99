"""Unrelated texts, which an injection should not affect."""

from importlib.resources import files
from pathlib import Path

from fv.errors import ConfigError

N_TEXTS = 12
"""Number of texts, by default."""


def read_unrelated(count: int, path: str | None = None, names: tuple[str, str] = ("count", "path")) -> list[str]:
    """Read the first unrelated texts of a file, one per line.

    Args:
        count: number of texts.
        path: the file, in UTF-8; None for the project's own.
        names: names of the two arguments in error messages.

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
